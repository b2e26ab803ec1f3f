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
from pipeline.searches.probes.frozen_tokens import Probed

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class KvFrozen:
    """`memory`: the share of what it was wrong by of a player that is kept from step to step."""

    memory: float = 0.5

    def __post_init__(self):
        if not 0 <= self.memory <= 1:
            raise UsageError(f"search.probe.memory={self.memory}: give a share from 0 to 1")

    def forwards(self, n_players: int) -> int:
        """A pass a step."""
        return n_players

    def open(self, value: SetFunction, game: Game) -> "FrozenLook":
        """Wrong by nothing so far."""
        return FrozenLook(self, value, game.n_players)


class FrozenLook:
    """See `KvFrozen`."""

    def __init__(self, probe: KvFrozen, value: SetFunction, n_players: int):
        self._memory, self._value = probe.memory, value
        self._wrong_N = np.zeros(n_players)
        self._said_N = np.zeros(n_players)

    def __call__(self, walk: Walk) -> Generator[Ask, Any, np.ndarray]:
        """One pass."""
        rest = walk.rest
        scored = yield from probed(self._value(joined(walk.picked_N, rest)))
        self._said_N[rest] = scored.value_C.numpy()
        self._wrong_N *= self._memory
        return self._said_N[rest] + self._wrong_N[rest]

    def told(self, walk: Walk, players: np.ndarray, value_C: np.ndarray) -> None:
        """How wrong it was."""
        self._wrong_N[players] = value_C - self._said_N[players]


def probed(coroutine: Generator[Ask, Any, T]) -> Generator[Any, Any, T]:
    """Coroutine: the same, but coalitions are answered by the probe."""
    return asking(coroutine, lambda ask: Probed(ask) if isinstance(ask, Coalitions) else ask)
