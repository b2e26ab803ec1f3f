"""Symmetric relevance gain (Bluecher, Vielhaben & Strodthoff, arXiv 2401.06654).

The area between the curves of both ways along one order, least and most important first: of
deletion AUC(least first) - AUC(most first), of insertion the other way round. What a masking does
to every curve cancels.
"""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.game import Game, Objective
from pipeline.judges import Verdict
from pipeline.judges.areas import auc
from pipeline.judges.curves import columns, curve, fractions, reversed_order
from pipeline.methods import Attribution


@dataclass(frozen=True, kw_only=True)
class Srg:
    """Of probabilities. The row's curve is that of the most important first; higher is better."""

    version: ClassVar[int] = 1

    def forwards(self, n_players: int) -> int:
        """All points of both curves between the ends."""
        return 2 * (n_players - 1)

    def judge(self, found: Attribution, objective: Objective, game: Game) -> Verdict:
        """Curve and the area between both."""
        n, order = game.n_players, found.order
        most = yield from curve(order, n, objective, game.ends, found.path)
        row = columns(most, fractions(order, game.share_N), objective)
        back = reversed_order(order, n)
        least = yield from curve(back, n, objective, game.ends)
        probability_G = least.probability_C.numpy()
        gain = auc(fractions(back, game.share_N), probability_G) - row["auc_probability"]
        return row | {"measure": "srg", "value": gain if objective == "deletion" else -gain}
