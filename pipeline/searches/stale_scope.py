"""Stale-scope search (EAGLE's efficient one): most rounds score only the head of an older order.

Every `update` rounds all remaining players are scored by F(S + a) and sorted; in between only the
first `scope` of that order are. The last `pending` of it, by F without each, say who comes last.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import SetFunction
from pipeline.searches import Found, Stop, Walk, ended, falling, first_best, joined


@dataclass(frozen=True, kw_only=True)
class StaleScope:
    """Players scored for the next place, and for the last; rounds from one full scoring to the
    next."""

    version: ClassVar[int] = 1
    scope: int = 8
    pending: int = 4
    update: int = 10

    def __post_init__(self):
        for name in ("scope", "pending", "update"):
            if getattr(self, name) < 1:
                raise UsageError(f"search.{name}={getattr(self, name)}: give 1 or more")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """All or the scope for the next, `pending` for the last; and the prefix that ends in the
        worst player of the first round."""
        sets, rest = 1, n_players
        for done in range(stop.most(n_players)):
            if not rest:
                break
            sets += rest if done % self.update == 0 else min(self.scope, rest)
            if rest > self.pending:
                sets, rest = sets + (self.pending if done else 0), rest - 1
            rest -= 1
        return per_set * sets

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Rounds until nobody remains or the picked are enough."""
        walk, singles = Walk(value, game, stop), None
        worst_N = np.zeros(game.n_players, dtype=bool)
        stale, worst, done = np.arange(game.n_players), list[int](), 0
        while not walk.done and len(stale):
            full = done % self.update == 0
            heads = np.sort(stale if full else stale[: self.scope])
            scored = yield from value(joined(walk.picked_N, heads))
            singles = scored if singles is None else singles
            best = first_best(scored.value_C, value.tie)
            walk.take(int(heads[best]), scored[best : best + 1])
            many = len(stale) > self.pending
            stale = heads[falling(scored.value_C)] if full else stale
            stale = stale[stale != heads[best]]
            if many and not walk.done:
                last = int(stale[-1])
                if done:
                    tail = np.sort(stale[-self.pending :])
                    scored = yield from value(~joined(worst_N, tail))
                    last = int(tail[first_best(scored.value_C, value.tie)])
                worst_N[last] = True
                worst.append(last)
                stale = stale[stale != last]
            done += 1
        yield from ended(walk, value, worst[::-1], game.n_players)
        return Found(order=walk.order, path=walk.path, singles=singles)
