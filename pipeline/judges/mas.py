"""Magnitude-aligned scoring (Walker, Jha & Ewetz, IJCAI 2024): curves that see not only in which
order but also how much.

m: the probability along the curve, rescaled so that its ends are 0 and 1, and made monotone. d: the
share of all importance that has been inserted, or is still there. The score is the area under
m - |m - d| of insertion, m + |m - d| of deletion, kept within 0 to 1.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.game import Game, Objective
from pipeline.judges import Verdict, values
from pipeline.judges.areas import auc
from pipeline.judges.curves import columns, curve, fractions
from pipeline.methods import Attribution


@dataclass(frozen=True, kw_only=True)
class Mas:
    """Over players; magnitudes are those of a method's scores, or ranks along an order."""

    version: ClassVar[int] = 1

    def forwards(self, n_players: int) -> int:
        """All points between the ends."""
        return n_players - 1

    def judge(self, found: Attribution, objective: Objective, game: Game) -> Verdict:
        """Curve and score. Raises ValueError where the whole image is as probable as none of it."""
        outputs = yield from curve(found.order, game.n_players, objective, game.ends, found.path)
        row = columns(outputs, fractions(found.order, game.share_N), objective)
        magnitude_N = values(found, game.n_players).abs().numpy()
        placed = magnitude_N[found.order]
        held_G = np.concatenate([[0], np.cumsum(placed)]) / (magnitude_N.sum() or 1)
        if len(held_G) < len(outputs):  # the end point of an order that stops early
            held_G = np.append(held_G, 1.0)
        aligned_G = aligned(outputs.probability_C.numpy(), held_G, objective)
        return row | {"measure": "mas", "value": auc(row["fraction"], aligned_G)}


def aligned(probability_G: np.ndarray, held_G: np.ndarray, objective: Objective) -> np.ndarray:
    """The curve that is scored; `held_G`: share of all importance in the players picked so far."""
    insertion = objective == "insertion"
    empty, full = probability_G[[0, -1]] if insertion else probability_G[[-1, 0]]
    if full == empty:
        raise ValueError("MAS: the image is as probable with everything hidden as with nothing")
    response_G = np.clip((probability_G - empty) / (full - empty), 0, 1)
    monotone_G = (np.maximum if insertion else np.minimum).accumulate(response_G)
    density_G = held_G if insertion else 1 - held_G
    penalty_G = np.abs(monotone_G - density_G)
    return np.clip(monotone_G - penalty_G if insertion else monotone_G + penalty_G, 0, 1)
