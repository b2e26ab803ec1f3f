"""Average highest confidence: how probable the target gets within a budget of area.

Of mistakes, explained for their true class, it says how far a region can bring the model back to it
(submodular subset selection, ICLR 2024, Table 2; there, images without a step inside the budget are
left out, here they count).
"""

import numpy as np
import pyarrow as pa

from pipeline.studies.curves.grid import Curves

BUDGETS = (25, 50, 75, 100)
"""Percent of the pixels."""
ROUNDING = 1e-6
"""Fractions are float32; one pixel is more than that."""


def highest(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Highest probability of insertion curves within each budget, (n, B), and whether an image
    takes no step inside it, (n, B).

    The curve counts where 0 < fraction <= budget; an image without a step there is not left out
    but counts with the empty image, the only point inside. Of a scalar output it is NaN.
    """
    curves = Curves(rows["fraction"])
    y_P, there_n = curves.values(rows["probability"])
    first_n = curves.first_n
    highest_nB = np.empty((len(rows), len(BUDGETS)))
    missed_nB = np.empty((len(rows), len(BUDGETS)), dtype=bool)
    for j, budget in enumerate(BUDGETS):
        inside_P = curves.x_P <= budget / 100 + ROUNDING
        inside_P[first_n] = False
        best_n = np.maximum.reduceat(np.where(inside_P, y_P, -np.inf), first_n)
        missed_nB[:, j] = np.isneginf(best_n) & there_n
        highest_nB[:, j] = np.where(missed_nB[:, j], y_P[first_n], best_n)
    highest_nB[~there_n] = np.nan
    return highest_nB, missed_nB
