"""Average highest confidence: how probable the target gets within a budget of area.

Of mistakes, explained for their true class, it says how far a region can bring the model back to it
(submodular subset selection, ICLR 2024, Table 2; there, images without a step inside the budget are
left out, here they count).
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BUDGETS = (25, 50, 75, 100)
"""Percent of the pixels."""
ROUNDING = 1e-6
"""Fractions are float32; one pixel is more than that."""


def highest(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Highest probability of insertion curves within each budget, (n, P), and how many images take
    no step inside it, (P,).

    The curve counts where 0 < fraction <= budget; an image without a step there is not left out
    but counts with the empty image, the only point inside.
    """
    highest_nP = np.empty((len(rows), len(BUDGETS)))
    missed_P = np.zeros(len(BUDGETS), dtype=int)
    for i, (x, y) in enumerate(zip(rows["fraction"], rows["probability"], strict=True)):
        if not y.is_valid:  # of a scalar output
            highest_nP[i] = np.nan
            continue
        fraction_G, probability_G = x.values.to_numpy(), y.values.to_numpy()
        for j, budget in enumerate(BUDGETS):
            inside_G = probability_G[1:][fraction_G[1:] <= budget / 100 + ROUNDING]
            missed_P[j] += not len(inside_G)
            highest_nP[i, j] = inside_G.max() if len(inside_G) else probability_G[0]
    return highest_nP, missed_P


def explains_mistakes(rows: pa.Table) -> bool:
    """Whether an image's target is not its prediction."""
    return bool(pc.any(pc.not_equal(rows["target"], rows["prediction"])).as_py())
