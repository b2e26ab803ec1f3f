"""How a good set is found: a search orders players so that its prefixes are worth much.

A search is a coroutine over a set function (`pipeline.scores`); it knows neither what a set is
worth nor which objective the order will serve.
"""

from collections.abc import Generator, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.game import Ask, Game
from pipeline.scores import Scored, SetFunction, height


@dataclass(frozen=True, kw_only=True)
class Stop:
    """When a search may end before every player has its place: after `budget` players; before more
    than `area` of the pixels are picked; once F is at least `reach`; once the prediction is what
    the score wants (`flip`); once no player adds to F (`gain`); once the players after the first
    have reached less than `pace` each (in probability where F is log-odds, else in F); once what
    their curve, of probabilities, falls short of 1 by has added up to `short`. A search that may
    still raise that curve does not heed `short`."""

    budget: int | None = None
    area: float | None = None
    reach: float | None = None
    flip: bool = False
    gain: bool = False
    pace: float | None = None
    short: float | None = None

    def most(self, n_players: int) -> int:
        """Players at the most."""
        return n_players if self.budget is None else min(self.budget, n_players)

    def slow(self, value: SetFunction, scored: Scored, picked: int) -> bool:
        """Whether so many players have fallen behind the pace; `scored`: F of them, one row."""
        return self.pace is not None and height(value, scored) < self.pace * (picked - 1)


@dataclass(frozen=True, kw_only=True)
class Found:
    """An order, a prefix of one where the search stopped. `path`: F after each of its players, None
    where the order is empty or the search did not see it; `singles`: F of each player alone, where
    it did; `details`: what a row says of how it was found."""

    order: list[int]
    path: Scored | None = None
    singles: Scored | None = None
    details: dict[str, Any] | None = None


class Search(Protocol):
    """A frozen dataclass."""

    version: ClassVar[int]

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """At the most, of all sets asked for."""
        ...

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Coroutine: ask for F of sets, return an order."""
        ...


class Walk:
    """Players picked one after the other until it is time to stop; `done` says that it is."""

    def __init__(self, value: SetFunction, game: Game, stop: Stop):
        self._stop, self._value = stop, value
        self._share_N = game.share_N.numpy()
        self._most = stop.most(game.n_players)
        self._area = self._short = 0.0
        self._now = -np.inf if value.start is None else value.start
        self.picked_N = np.zeros(game.n_players, dtype=bool)
        self.order: list[int] = []
        self._path: list[Scored] = []
        self.done = self._most == 0

    def fork(self) -> "Walk":
        """Another that has come as far."""
        other = copy(self)
        other.picked_N = self.picked_N.copy()
        other.order, other._path = list(self.order), list(self._path)
        return other

    @property
    def rest(self) -> np.ndarray:
        """Players not picked, ascending."""
        return np.flatnonzero(~self.picked_N)

    @property
    def left(self) -> int:
        """How many more may be picked."""
        return 0 if self.done else self._most - len(self.order)

    @property
    def value(self) -> float:
        """F of what is picked; of nobody before, or minus infinity where that has none."""
        return self._now

    @property
    def path(self) -> Scored | None:
        """F after each pick, None before the first."""
        return Scored.cat(self._path) if self._path else None

    def take(self, player: int, scored: Scored) -> None:
        """Pick a player unless that is to be stopped before; `scored`: F with it, one row."""
        value, stop = float(scored.value_C.numpy()[0]), self._stop
        area = self._area + self._share_N[player]
        idle = stop.gain and value <= self._now + self._value.tie
        if self.done or idle or (stop.area is not None and area > stop.area + 1e-9):
            self.done = True
            return
        self.order.append(player)
        self.picked_N[player] = True
        self._path.append(scored)
        self._now, self._area = value, area
        flipped = stop.flip and bool(scored.reached_C[0])
        reached = stop.reach is not None and value >= stop.reach
        slow = stop.slow(self._value, scored, len(self.order))
        self.done = flipped or reached or slow or len(self.order) >= self._most
        if stop.short is not None:
            self._short += 1 - height(self._value, scored)
            self.done = self.done or self._short >= stop.short

    def follow(self, order: Iterable[int], rows: Iterable[Scored]) -> None:
        """Pick players whose order is known, until one of them is to stop; `rows`: F with each."""
        for player, scored in zip(order, rows, strict=True):
            self.take(player, scored)


def ended(
    walk: Walk, value: SetFunction, tail: Sequence[int], n_players: int
) -> Generator[Ask, Any, None]:
    """Coroutine: walk on to players whose order is known."""
    tail = list(tail)[: walk.left]
    if not tail:
        return
    sets_CN = prefixes([*walk.order, *tail], n_players)[-len(tail) :]
    scored = yield from value(sets_CN)
    walk.follow(tail, scored.rows)


def joined(picked_N: np.ndarray, candidates: np.ndarray) -> Tensor:
    """Sets (C, N): the picked players and one candidate each."""
    sets_CN = np.repeat(picked_N[None], len(candidates), 0)
    sets_CN[np.arange(len(candidates)), candidates] = True
    return torch.from_numpy(sets_CN)


def prefixes(order: Sequence[int], n_players: int) -> Tensor:
    """Sets (len(order), N): the first player, the first two, ..."""
    place_N = np.full(n_players, len(order))
    place_N[list(order)] = np.arange(len(order))
    return torch.from_numpy(place_N[None] <= np.arange(len(order))[:, None])


def first_best(value_C: Tensor, tie: float) -> int:
    """Index of the largest value; the lowest index among those within `tie` of it."""
    values = value_C.numpy()
    return int((values >= values[values.argmax()] - values.dtype.type(tie)).argmax())


def falling(value_C: Tensor) -> np.ndarray:
    """Indices by falling value; the lowest index first among equals."""
    return np.argsort(-value_C.numpy(), kind="stable")
