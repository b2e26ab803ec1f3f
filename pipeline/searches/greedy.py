"""Greedy search: b_k = argmax_b F(S + b), one player a step.

n(n+1)/2 sets for a full order of n players: only remaining players are scored. For monotone
submodular F, prefixes reach 1 - 1/e of the optimum (Nemhauser et al., 1978).
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.game import Ask
from pipeline.scores import Scored, SetFunction
from pipeline.searches import Found, Stop, first_best, joined


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """No settings."""

    version: ClassVar[int] = 1

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Step k scores the n - k + 1 players that remain; with `stop.gain` one step may be in
        vain, which the budget covers."""
        rest = n_players - stop.most(n_players)
        return per_set * (n_players * (n_players + 1) // 2 - rest * (rest + 1) // 2)

    def __call__(
        self, value: SetFunction, n_players: int, stop: Stop
    ) -> Generator[Ask, Any, Found]:
        """Pick one player a step until the search stops."""
        picked_N = np.zeros(n_players, dtype=bool)
        order: list[int] = []
        path: list[Scored] = []
        singles, now = None, -np.inf if value.start is None else value.start
        while len(order) < stop.most(n_players):
            candidates = np.flatnonzero(~picked_N)
            scored = yield from value(joined(picked_N, candidates))
            singles = scored if singles is None else singles
            best = first_best(scored.value_C, value.tie)
            reached = float(scored.value_C.numpy()[best])
            if stop.gain and reached <= now + value.tie:
                break
            now = reached
            order.append(int(candidates[best]))
            picked_N[candidates[best]] = True
            path.append(scored[best : best + 1])
            if stop.flip and bool(path[-1].reached_C[0]):
                break
        return Found(order=order, path=Scored.cat(path) if path else None, singles=singles)
