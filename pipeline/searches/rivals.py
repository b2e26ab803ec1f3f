"""Two searches, and the better of their orders: each walks past what the other meets.

The second, where it picks from the front, is given up once it cannot win any more, not even if its
curve were at the top from there on: of an image that the first search orders well it takes little.
"""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pipeline.game import Ask, Game
from pipeline.scores import SetFunction, chance, heights
from pipeline.searches import Found, Search, Stop, Walk
from pipeline.searches.backward import Backward
from pipeline.searches.greedy import Greedy


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """`search`, and `rival`, whose order is taken where the curve along it has more area (in the
    target's probability where F is log-odds, else in F, and then it is never given up). Both order
    all players, so that who ends early has the head of the same order. `details` are those of the
    search whose order it is, and say whether that is the `rival`."""

    version: ClassVar[int] = 1
    search: Search = field(default_factory=Backward)
    rival: Search = field(default_factory=Greedy)

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Of both, whole: where to stop changes nothing."""
        both = (self.search, self.rival)
        return sum(one.forwards(n_players, per_set, Stop()) for one in both)

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Both, then the walk along the better order."""
        best = yield from self.search(value, game, Stop())
        assert best.path is not None
        path = best.path.rows
        now = heights(value, path).sum()
        short = None if chance(value, path[0]) is None else game.n_players - now
        other = yield from self.rival(value, game, Stop(short=short))
        assert other.path is not None
        along, whole = other.path.rows, len(other.order) == game.n_players
        won = whole and bool(heights(value, along).sum() > now + value.tie)
        if won:
            best, path = other, along
        walk = Walk(value, game, stop)
        walk.follow(best.order, path)
        details = {**(best.details or {}), "rival": won}
        return replace(best, order=walk.order, path=walk.path, details=details)
