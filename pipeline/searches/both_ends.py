"""From both ends: a search picks the first players, backward elimination orders the others.

Each end is met where it is cheap to look from. The first players of an insertion are asked of small
sets, and decide most of the area; the others are let go from the full set, many at a time, where
one forward and one backward tell about whom F misses least (`probes.first_order`).

A forward search starts blind. Where much stands in the target's way, so that the model is unsure of
the whole image, and the front is slow, it has not met what the model looks at: whom it picked is
given up, and elimination, which starts from all, orders everybody.
"""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.identity import LATER
from pipeline.scores import SetFunction, chance
from pipeline.searches import Found, Search, Stop, Walk
from pipeline.searches.backward import Backward
from pipeline.searches.screened import Screened


@dataclass(frozen=True, kw_only=True)
class BothEnds:
    """`front`: the search that picks the first `steps` players, fewer where F is at least `reach`
    before (2.94 in log-odds is a probability of .95; None: all of them). `pace`: it is given up
    once p is less than this share, for each of its players after the first, of what p of all
    players falls short of 1 by; None, or where F is no log-odds: never. `behind`: what orders the
    others. `details` say how many of the order the `front` picked, 0 where it was given up."""

    version: ClassVar[int] = 1
    front: Search = field(default_factory=Screened)
    steps: int = 10
    reach: float | None = None
    behind: Backward = field(default_factory=Backward)
    pace: float | None = field(default=None, metadata=LATER)

    def __post_init__(self):
        if self.steps < 1:
            raise UsageError(f"search.steps={self.steps}: give 1 or more players")
        if self.pace is not None and self.pace < 0:
            raise UsageError(f"search.pace={self.pace}: give 0 or more, or null")
        if not isinstance(self.behind, Backward):
            raise UsageError("search.behind: give backward elimination (backward.Backward)")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Of both, as if the front picked nobody."""
        front = self.front.forwards(n_players, per_set, self._front(stop, n_players, None))
        return front + self.behind.forwards(n_players, per_set, stop)

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """The front, then the others if the search is to go on."""
        pace = yield from self._pace(value, game.n_players)
        until = self._front(stop, game.n_players, pace)
        found = yield from self.front(value, game, until)
        walk, path = Walk(value, game, stop), found.path
        if path is not None and not until.slow(value, path[-1:], len(path)):
            walk.follow(found.order, path.rows)
        details = {"front": len(walk.order)}
        if not walk.done:
            yield from self.behind.finish(walk, value)
        return Found(order=walk.order, path=walk.path, details=details)

    def _pace(self, value: SetFunction, n_players: int) -> Generator[Ask, Any, float | None]:
        """Coroutine: in probability a player; None where the front is kept however slow."""
        if self.pace is None:
            return None
        p = chance(value, (yield from value(torch.ones((1, n_players), dtype=torch.bool))))
        return None if p is None else self.pace * (1 - p)

    def _front(self, stop: Stop, n_players: int, pace: float | None) -> Stop:
        """Where it may be given up it is found whole: who ends early is to have the same head."""
        if self.pace is not None:
            return Stop(budget=min(self.steps, n_players), reach=self.reach, pace=pace)
        reach = min((r for r in (self.reach, stop.reach) if r is not None), default=None)
        return replace(stop, budget=min(self.steps, stop.most(n_players)), reach=reach)
