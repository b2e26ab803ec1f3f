"""Bidirectional search (LiMA, arXiv 2504.00470): each round finds the best and the worst player.

S gains argmax_a F(S + a). The same F(S + a) says which `pending` players may be the worst; of these
D gains argmin_a F(D + a). Once no more than `pending` remain, only the best are looked for. The
order is S, then D reversed. (The authors rate what may be the worst by the diversity of D + a
instead of S + a, where F has such a term.)
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
class Bidirectional:
    """`pending`: players that may be the worst of a round; with all pending it is greedy search."""

    version: ClassVar[int] = 1
    pending: int = 8

    def __post_init__(self):
        if self.pending < 1:
            raise UsageError(f"search.pending={self.pending}: give 1 or more players")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Rounds of both sides, then of one; and the prefixes that end in D reversed."""
        sets, rest, worst = 0, n_players, 0
        for _ in range(stop.most(n_players)):
            if not rest:
                break
            sets += rest
            if rest > self.pending:
                sets, rest, worst = sets + self.pending, rest - 1, worst + 1
            rest -= 1
        return per_set * (sets + worst)

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Rounds until nobody remains or S is enough."""
        walk, singles = Walk(value, game, stop), None
        worst_N = np.zeros(game.n_players, dtype=bool)
        worst: list[int] = []
        while not walk.done and len(rest := np.flatnonzero(~(walk.picked_N | worst_N))):
            scored = yield from value(joined(walk.picked_N, rest))
            singles = scored if singles is None else singles
            best = first_best(scored.value_C, value.tie)
            walk.take(int(rest[best]), scored[best : best + 1])
            if walk.done or len(rest) <= self.pending:
                continue
            rising = falling(-scored.value_C)
            candidates = np.sort(rest[rising[rising != best][: self.pending]])
            scored = yield from value(joined(worst_N, candidates))
            worst.append(int(candidates[first_best(-scored.value_C, value.tie)]))
            worst_N[worst[-1]] = True
        yield from ended(walk, value, worst[::-1], game.n_players)
        return Found(order=walk.order, path=walk.path, singles=singles)
