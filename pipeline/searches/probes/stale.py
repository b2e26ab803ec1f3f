"""Stale gains: what a candidate added when it was last verified."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import SetFunction
from pipeline.searches import Walk


@dataclass(frozen=True, kw_only=True)
class Stale:
    """All are verified in the `first` steps, then every `refresh` steps."""

    first: int = 1
    refresh: int = 8

    def __post_init__(self):
        if self.first < 1 or self.refresh < 1:
            raise UsageError("search.probe: give first and refresh as 1 or more")

    def forwards(self, n_players: int) -> int:
        """What it verifies beyond a step's own."""
        return sum(n_players - step for step in range(n_players) if self.whole(step))

    def whole(self, step: int) -> bool:
        """Whether all candidates of a step are verified."""
        return step < self.first or (step - self.first + 1) % self.refresh == 0

    def open(self, value: SetFunction, game: Game) -> "StaleLook":
        """Nothing is known at first."""
        return StaleLook(self, game.n_players)


class StaleLook:
    """See `Stale`."""

    def __init__(self, probe: Stale, n_players: int):
        self._probe = probe
        self._gain_N = np.full(n_players, np.inf)

    def __call__(self, walk: Walk) -> Generator[Ask, Any, np.ndarray]:
        """Asks nothing."""
        yield from ()
        if self._probe.whole(len(walk.order)):
            return np.full(len(walk.rest), np.inf)
        return _value(walk) + self._gain_N[walk.rest]

    def told(self, walk: Walk, players: np.ndarray, value_C: np.ndarray) -> None:
        """What they add to S."""
        self._gain_N[players] = value_C - _value(walk)


def _value(walk: Walk) -> float:
    return walk.value if np.isfinite(walk.value) else 0.0
