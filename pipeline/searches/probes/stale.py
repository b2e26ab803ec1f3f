"""Stale gains: a candidate is expected to add what it added when it was last verified."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.game import Ask, Game
from pipeline.scores import SetFunction
from pipeline.searches import Walk
from pipeline.searches.probes import check_steps, worth


@dataclass(frozen=True, kw_only=True)
class Stale:
    """All are verified in the `first` steps, then every `refresh` steps; None: not again."""

    first: int = 1
    refresh: int | None = None

    def __post_init__(self):
        check_steps(self.first, self.refresh)

    def forwards(self, n_players: int) -> int:
        """None of its own."""
        return 0

    def verifies_all(self, step: int) -> bool:
        """Whether all candidates of a step are verified."""
        due = self.refresh is not None and (step - self.first + 1) % self.refresh == 0
        return step < self.first or due

    def open(self, value: SetFunction, game: Game) -> "StaleLook":
        """Knows nothing: what players add is what it is wrong by, which the search remembers."""
        return StaleLook()


class StaleLook:
    """See `Stale`."""

    renewed = False

    def __call__(self, walk: Walk, *, ask: bool) -> Generator[Ask, Any, np.ndarray]:
        """Asks nothing: nobody adds anything."""
        yield from ()
        return np.full(len(walk.rest), worth(walk))
