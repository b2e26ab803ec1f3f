"""From both ends: a search picks the first players, backward elimination orders the others.

Each end is met where it is cheap to look from. The first players of an insertion are asked of small
sets, and decide most of the area; the others are let go from the full set, many at a time, where
one forward and one backward tell about whom F misses least (`probes.first_order`).
"""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import SetFunction
from pipeline.searches import Found, Search, Stop, Walk
from pipeline.searches.backward import Backward
from pipeline.searches.screened import Screened


@dataclass(frozen=True, kw_only=True)
class BothEnds:
    """`front`: the search that picks the first `steps` players, fewer where F is at least `reach`
    before (2.94 in log-odds is a probability of .95; None: all of them); `behind`: what orders the
    others."""

    version: ClassVar[int] = 1
    front: Search = field(default_factory=Screened)
    steps: int = 10
    reach: float | None = None
    behind: Backward = field(default_factory=Backward)

    def __post_init__(self):
        if self.steps < 1:
            raise UsageError(f"search.steps={self.steps}: give 1 or more players")
        if not isinstance(self.behind, Backward):
            raise UsageError("search.behind: give backward elimination (backward.Backward)")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Of both, as if the front picked nobody."""
        front = self.front.forwards(n_players, per_set, self._front(stop, n_players))
        return front + self.behind.forwards(n_players, per_set, stop)

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """The front, then the others if the search is to go on."""
        found = yield from self.front(value, game, self._front(stop, game.n_players))
        walk = Walk(value, game, stop)
        for row, player in enumerate(found.order):
            assert found.path is not None
            walk.take(player, found.path[row : row + 1])
        if not walk.done:
            yield from self.behind.finish(walk, value)
        return Found(order=walk.order, path=walk.path)

    def _front(self, stop: Stop, n_players: int) -> Stop:
        reach = min((r for r in (self.reach, stop.reach) if r is not None), default=None)
        return replace(stop, budget=min(self.steps, stop.most(n_players)), reach=reach)
