"""Probes: what candidates of a screened search are worth, or about, at little cost.

A probe need not be right: the search remembers how wrong it was of each player, and how fast that
changes (`pipeline.searches.doubt`). It pays to be wrong in the same way from step to step.
"""

from collections.abc import Generator
from typing import Any, Protocol

import numpy as np

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import SetFunction
from pipeline.searches import Walk


class Probe(Protocol):
    """A frozen dataclass."""

    def forwards(self, n_players: int) -> int:
        """At the most, of all looks."""
        ...

    def verifies_all(self, step: int) -> bool:
        """Whether all candidates of a step are verified."""
        ...

    def open(self, value: SetFunction, game: Game) -> "Look":
        """At one image."""
        ...


class Look(Protocol):
    """What a probe makes of one image's game. `renewed`: whether the last call saw all candidates
    afresh, so that it is wrong as such calls are, and not by what has changed since one."""

    renewed: bool

    def __call__(self, walk: Walk, *, ask: bool) -> Generator[Ask, Any, np.ndarray]:
        """Coroutine: F(S + a) as expected of each of `walk.rest`, finite. `ask`: whether it may."""
        ...


def check_steps(first: int, refresh: int | None) -> None:
    """Raises UsageError for settings that are no numbers of steps."""
    for name, steps in (("first", first), ("refresh", refresh)):
        if steps is not None and steps < 1:
            raise UsageError(f"search.probe.{name}={steps}: give 1 or more steps")


def worth(walk: Walk) -> float:
    """F(S); 0 where F has no start."""
    return walk.value if np.isfinite(walk.value) else 0.0
