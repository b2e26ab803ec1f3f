"""Joint search (VX-CODE, arXiv 2412.00666): several players a step, for what they do together.

Each step scores F(S + a) of all that remain, then F of S with every `r` of the `top` best of them,
and picks the best r, the better alone first. r = 1 is greedy search.
"""

from collections.abc import Generator
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any, ClassVar

import numpy as np
import torch

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import SetFunction
from pipeline.searches import Found, Stop, Walk, ended, falling, first_best, joined


@dataclass(frozen=True, kw_only=True)
class Joint:
    """`share`: of the players picked jointly, the others one a step."""

    version: ClassVar[int] = 1
    r: int = 2
    top: int = 10
    share: float = 1.0

    def __post_init__(self):
        if self.r < 1 or self.top < self.r:
            raise UsageError(f"search.r={self.r}, search.top={self.top}: give 1 <= r <= top")
        if not 0 <= self.share <= 1:
            raise UsageError(f"search.share={self.share}: give 0 to 1")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Single players and combinations of each step, and what lies between the two."""
        sets, picked, most = 0, 0, stop.most(n_players)
        while picked < most:
            rest = n_players - picked
            size = self._size(picked, n_players, most)
            joint = comb(min(self.top, rest), size) + size - 2 if size > 1 else 0
            sets, picked = sets + rest + joint, picked + size
        return per_set * sets

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """A step picks r players, fewer at the end."""
        walk, singles = Walk(value, game, stop), None
        while not walk.done:
            rest, picked = walk.rest, len(walk.order)
            scored = yield from value(joined(walk.picked_N, rest))
            singles = scored if singles is None else singles
            size = self._size(picked, game.n_players, picked + walk.left)
            if size == 1:
                best = first_best(scored.value_C, value.tie)
                walk.take(int(rest[best]), scored[best : best + 1])
                continue
            top = falling(scored.value_C)[: self.top]
            chosen = top[(yield from self._best(value, walk.picked_N, rest[top], size))]
            walk.take(int(rest[chosen[0]]), scored[chosen[:1]])
            yield from ended(walk, value, rest[chosen[1:]].tolist(), game.n_players)
        return Found(order=walk.order, path=walk.path, singles=singles)

    def _size(self, picked: int, n_players: int, most: int) -> int:
        """Players of a step."""
        return min(self.r, most - picked) if picked < self.share * n_players else 1

    def _best(
        self, value: SetFunction, picked_N: np.ndarray, top: np.ndarray, size: int
    ) -> Generator[Ask, Any, np.ndarray]:
        """Places in `top` of the best of its combinations."""
        several = np.array(list(combinations(range(len(top)), size)))
        sets_CN = np.repeat(picked_N[None], len(several), 0)
        sets_CN[np.arange(len(several))[:, None], top[several]] = True
        scored = yield from value(torch.from_numpy(sets_CN))
        return several[first_best(scored.value_C, value.tie)]
