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
from pipeline.searches.probes import check_steps, worth
from pipeline.searches.probes.frozen_tokens import Probed

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class KvFrozen:
    """A pass in each of the `first` steps, then every `refresh` steps; None: not again. The first
    pass is exact for insertion. Between passes a candidate is expected to add what it added in the
    last. `share`: of the model's blocks, the first ones, in which the set's tokens are frozen; in
    the others each candidate has copies of its own."""

    first: int = 1
    refresh: int | None = None
    share: float = 1.0

    def __post_init__(self):
        check_steps(self.first, self.refresh)
        if not 0 <= self.share <= 1:
            raise UsageError(f"search.probe.share={self.share}: give 0 to 1")

    def forwards(self, n_players: int) -> int:
        """Its passes."""
        first = min(self.first, n_players)
        return first + (0 if self.refresh is None else (n_players - first) // self.refresh)

    def due(self, step: int, age: int) -> bool:
        """Whether there is a pass, `age` steps after the last one."""
        return step < self.first or (self.refresh is not None and age >= self.refresh)

    def verifies_all(self, step: int) -> bool:
        """Never."""
        return False

    def ask(self, asked: Coalitions) -> Ask:
        """A pass."""
        return Probed(asked, self.share)

    def open(self, value: SetFunction, game: Game) -> "FrozenLook":
        """Has seen nothing."""
        return FrozenLook(self, value, game.n_players)


class FrozenLook:
    """See `KvFrozen`."""

    renewed = False

    def __init__(self, probe: KvFrozen, value: SetFunction, n_players: int):
        self._probe, self._value = probe, value
        self._gain_N = np.zeros(n_players)
        self._last = 0

    def __call__(self, walk: Walk, *, ask: bool) -> Generator[Ask, Any, np.ndarray]:
        """A pass, where one is due."""
        rest, step = walk.rest, len(walk.order)
        self.renewed = ask and self._probe.due(step, step - self._last)
        if self.renewed:
            self._last = step
            asked = self._value(joined(walk.picked_N, rest))
            scored = yield from probed(asked, self._probe)
            self._gain_N[rest] = scored.value_C.numpy() - worth(walk)
        return worth(walk) + self._gain_N[rest]


def probed(coroutine: Generator[Ask, Any, T], probe: KvFrozen) -> Generator[Any, Any, T]:
    """Coroutine: the same, but coalitions are answered by the probe."""

    def instead(ask: Any) -> Any:
        return probe.ask(ask) if isinstance(ask, Coalitions) else ask

    return asking(coroutine, instead)
