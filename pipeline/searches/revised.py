"""An order is looked at again: its first players from behind, then who stands beside whom.

A forward search starts blind, and keeps whom it picked. Where the first players together are worth
much more than the first few of them, backward elimination orders them anew, and the better of the
two orders stays: each search walks past what the other meets. In the end neighbours may change
places (`searches.exchange`). No area is lost, and the players are the search's; of the new order
those go who stand behind what was to be reached.
"""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import Scored, SetFunction, heights
from pipeline.searches import Found, Search, Stop, Walk
from pipeline.searches.backward import Backward
from pipeline.searches.exchange import exchanged
from pipeline.searches.greedy import Greedy


@dataclass(frozen=True, kw_only=True)
class Revised:
    """`search`: what finds the order, and whose `details` a row has. `first`: players of it that
    `again` orders anew, where the curve before them lies below what they are worth together by an
    area of more than `rise` (in the target's probability where F is log-odds, else in F; all
    players are 1 on its axis). `exchange`: neighbours may change places where that promises the
    curve between them to rise by more than this, in probability or F as there; None: nowhere.
    """

    version: ClassVar[int] = 2
    search: Search = field(default_factory=Greedy)
    first: int = 16
    rise: float = 0.0
    again: Backward = field(default_factory=Backward)
    exchange: float | None = None

    def __post_init__(self):
        if self.first < 0:
            raise UsageError(f"search.first={self.first}: give 0 or more players")
        if self.rise < 0:
            raise UsageError(f"search.rise={self.rise}: give 0 or more")
        if self.exchange is not None and self.exchange < 0:
            raise UsageError(f"search.exchange={self.exchange}: give 0 or more, or null")
        if not isinstance(self.again, Backward):
            raise UsageError("search.again: give backward elimination (backward.Backward)")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Of the search and of both looks."""
        most = stop.most(n_players)
        again = self.again.forwards(min(self.first, most), per_set, Stop())
        beside = 0 if self.exchange is None else per_set * max(most - 1, 0)
        return self.search.forwards(n_players, per_set, stop) + again + beside

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """The search, then both looks at what it found."""
        found = yield from self.search(value, game, replace(stop, short=None))
        if not (order := list(found.order)):
            return found
        assert found.path is not None
        path = found.path.rows
        yield from self._anew(order, path, game.n_players, value)
        if self.exchange is not None:
            yield from exchanged(order, path, game.n_players, value, self.exchange)
        # a player that adds nothing ended the search; in the new order one may stand anywhere
        walk = Walk(value, game, replace(stop, gain=False))
        walk.follow(order, path)
        return replace(found, order=walk.order, path=walk.path)

    def _anew(
        self, order: list[int], path: list[Scored], n_players: int, value: SetFunction
    ) -> Generator[Ask, Any, None]:
        """Coroutine: order the first players from behind, in place, where that is better."""
        now = heights(value, path[: self.first])
        below = np.maximum(now[-1:] - now, 0).sum()
        if below <= self.rise * n_players:
            return
        nobody_N, among_N = np.zeros((2, n_players), dtype=bool)
        among_N[order[: self.first]] = True
        anew, along = yield from self.again.ordered(among_N, nobody_N, value)
        if heights(value, along).sum() > now.sum() + value.tie:
            order[: self.first], path[: self.first] = anew, along
