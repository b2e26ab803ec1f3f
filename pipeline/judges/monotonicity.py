"""Monotonicity (Luss et al., KDD 2021): does every player, from the least important on, add?

Players appear (insertion), the least important first; of deletion the most important vanish first.
The measure is the share of steps at which the target's probability moves the expected way.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.game import Game, Objective
from pipeline.judges import Verdict
from pipeline.judges.curves import columns, curve, fractions, reversed_order
from pipeline.methods import Attribution


@dataclass(frozen=True, kw_only=True)
class Monotonicity:
    """No settings; the row's curve is the one looked at."""

    version: ClassVar[int] = 1

    def forwards(self, n_players: int) -> int:
        """All points between the ends."""
        return n_players - 1

    def judge(self, found: Attribution, objective: Objective, game: Game) -> Verdict:
        """Curve and share of its steps."""
        order, path = found.order, found.path
        if objective == "insertion":
            order, path = reversed_order(order, game.n_players), None
        outputs = yield from curve(order, game.n_players, objective, game.ends, path)
        row = columns(outputs, fractions(order, game.share_N), objective)
        steps = np.diff(row["log_odds"].astype(np.float64))
        right = (steps >= 0) if objective == "insertion" else (steps <= 0)
        return row | {"measure": "monotonicity", "value": float(right.mean())}
