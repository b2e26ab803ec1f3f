"""Beam search: the `width` best sets of each size go on, by the sum of F along their orders.

The sum, and not the last F, is what an area under a curve rewards. Orders that meet in one set go
on as the better of them. Width 1 is greedy search.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import SetFunction
from pipeline.searches import Found, Stop, Walk, first_best, joined


@dataclass(frozen=True, kw_only=True)
class Beam:
    """`width` sets at once: so many times the forwards of greedy search, less where orders meet."""

    version: ClassVar[int] = 1
    width: int = 4

    def __post_init__(self):
        if self.width < 1:
            raise UsageError(f"search.width={self.width}: give 1 or more")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """One set has n extensions, `width` sets have as many times those that remain."""
        sets, beams = 0, 1
        for picked in range(stop.most(n_players)):
            sets += beams * (n_players - picked)
            beams = min(self.width, beams * (n_players - picked))
        return per_set * sets

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Extend all, keep the best, until one of them is to stop."""
        # an order that has fallen short may be of the worse half of the beam
        beams, singles = [(0.0, Walk(value, game, replace(stop, short=None)))], None
        while not any(walk.done for _, walk in beams):
            sets = [joined(walk.picked_N, walk.rest) for _, walk in beams]
            scored = yield from value(torch.cat(sets))
            singles = scored if singles is None else singles
            value_C = scored.value_C.double()
            total_C = torch.cat(
                [torch.full((len(s),), total) for s, (total, _) in zip(sets, beams, strict=True)]
            )
            total_C = total_C.double() + value_C
            owners = np.repeat(np.arange(len(beams)), [len(s) for s in sets])
            players = np.concatenate([walk.rest for _, walk in beams])
            kept, seen = [], set[bytes]()
            for row in _falling(total_C, value.tie):
                owner, player = beams[owners[row]][1], int(players[row])
                picked_N = owner.picked_N.copy()
                picked_N[player] = True
                if picked_N.tobytes() in seen:
                    continue
                seen.add(picked_N.tobytes())
                walk = owner.fork()
                walk.take(player, scored[row : row + 1])
                kept.append((float(total_C[row]), walk))
                if len(kept) == self.width:
                    break
            beams = kept
        walk = next(walk for _, walk in beams if walk.done)
        return Found(order=walk.order, path=walk.path, singles=singles)


def _falling(total_C: torch.Tensor, tie: float) -> Generator[int, None, None]:
    """Rows by falling sum; the first among those within a tie."""
    left_C = total_C.clone()
    for _ in range(len(left_C)):
        row = first_best(left_C, tie)
        left_C[row] = -torch.inf
        yield row
