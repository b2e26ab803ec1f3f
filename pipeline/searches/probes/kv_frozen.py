"""Frozen keys and values: a Vision Transformer's answers to all candidates from one masked pass."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pipeline import UsageError
from pipeline.game import Ask, Coalitions, Game
from pipeline.game.arena import asking
from pipeline.scores import SetFunction
from pipeline.searches import Walk, joined
from pipeline.searches.probes import worth
from pipeline.searches.probes.frozen_tokens import Probed

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class KvFrozen:
    """A pass every `every` steps; None: at the first alone, which is exact for insertion. Between
    passes a candidate is expected to add what it added in the last."""

    every: int | None = None

    def __post_init__(self):
        if self.every is not None and self.every < 1:
            raise UsageError(f"search.probe.every={self.every}: give 1 or more steps, or null")

    def forwards(self, n_players: int) -> int:
        """Its passes."""
        return sum(map(self.looks, range(n_players)))

    def looks(self, step: int) -> bool:
        """Whether there is a pass."""
        return step == 0 or (self.every is not None and step % self.every == 0)

    def whole(self, step: int) -> bool:
        """Never."""
        return False

    def open(self, value: SetFunction, game: Game) -> "FrozenLook":
        """Has seen nothing."""
        return FrozenLook(self, value, game.n_players)


class FrozenLook:
    """See `KvFrozen`."""

    def __init__(self, probe: KvFrozen, value: SetFunction, n_players: int):
        self._probe, self._value = probe, value
        self._gain_N = np.zeros(n_players)

    def __call__(self, walk: Walk) -> Generator[Ask, Any, np.ndarray]:
        """A pass, where there is one."""
        rest = walk.rest
        if self._probe.looks(len(walk.order)):
            scored = yield from probed(self._value(joined(walk.picked_N, rest)))
            self._gain_N[rest] = scored.value_C.numpy() - worth(walk)
        return worth(walk) + self._gain_N[rest]


def probed(coroutine: Generator[Ask, Any, T]) -> Generator[Any, Any, T]:
    """Coroutine: the same, but coalitions are answered by the probe."""
    return asking(coroutine, lambda ask: Probed(ask) if isinstance(ask, Coalitions) else ask)
