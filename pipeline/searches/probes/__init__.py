"""Probes: what candidates of a screened search are worth, or about, at little cost."""

from collections.abc import Generator
from typing import Any, Protocol

import numpy as np

from pipeline.game import Ask, Game
from pipeline.scores import SetFunction
from pipeline.searches import Walk


class Probe(Protocol):
    """A frozen dataclass."""

    def forwards(self, n_players: int) -> int:
        """At the most, of all looks."""
        ...

    def open(self, value: SetFunction, game: Game) -> "Look":
        """At one image."""
        ...


class Look(Protocol):
    """What a probe makes of one image's game."""

    def __call__(self, walk: Walk) -> Generator[Ask, Any, np.ndarray]:
        """Coroutine: F(S + a) as expected of each of `walk.rest`; infinite: must be verified."""
        ...

    def told(self, walk: Walk, players: np.ndarray, value_C: np.ndarray) -> None:
        """F(S + a) of some, as it is; `walk` is still at S."""
        ...
