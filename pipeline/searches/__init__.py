"""How a good set is found: a search orders players so that its prefixes are worth much.

A search is a coroutine over a set function (`pipeline.scores`); it knows neither what a set is
worth nor which objective the order will serve.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.game import Ask
from pipeline.scores import Scored, SetFunction


@dataclass(frozen=True, kw_only=True)
class Stop:
    """When a search may end before every player has its place: after `budget` players; once the
    prediction is what the score wants (`flip`); once no player adds to F (`gain`)."""

    budget: int | None = None
    flip: bool = False
    gain: bool = False

    def most(self, n_players: int) -> int:
        """Players at the most."""
        return n_players if self.budget is None else min(self.budget, n_players)


@dataclass(frozen=True, kw_only=True)
class Found:
    """An order, a prefix of one where the search stopped. `path`: F after each of its players, None
    where the order is empty or the search did not see it; `singles`: F of each player alone, where
    it did."""

    order: list[int]
    path: Scored | None = None
    singles: Scored | None = None


class Search(Protocol):
    """A frozen dataclass."""

    version: ClassVar[int]

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """At the most, of all sets asked for."""
        ...

    def __call__(
        self, value: SetFunction, n_players: int, stop: Stop
    ) -> Generator[Ask, Any, Found]:
        """Coroutine: ask for F of sets, return an order."""
        ...


def joined(picked_N: np.ndarray, candidates: np.ndarray) -> Tensor:
    """Sets (C, N): the picked players and one candidate each."""
    sets_CN = np.repeat(picked_N[None], len(candidates), 0)
    sets_CN[np.arange(len(candidates)), candidates] = True
    return torch.from_numpy(sets_CN)


def first_best(value_C: Tensor, tie: float) -> int:
    """Index of the largest value; the lowest index among those within `tie` of it."""
    values = value_C.numpy()
    return int((values >= values[values.argmax()] - values.dtype.type(tie)).argmax())
