"""Whether judges agree: Kendall's tau between two rankings, Krippendorff's alpha among many.

alpha = 1 - D_o / D_e, observed over expected disagreement of ratings of one unit (Krippendorff,
Content Analysis). The ordinal metric is the interval metric of mid-ranks among all ratings.
"""

from typing import Any

import numpy as np
from scipy import stats


def kendall(one_m: np.ndarray, other_m: np.ndarray) -> float:
    """Tau-b of two ratings of the same m methods, -1 to 1; NaN of fewer than two, or where one
    tells nothing apart."""
    if len(one_m) < 2:
        return float("nan")
    found: Any = stats.kendalltau(one_m, other_m)
    return float(found[0])


def alpha(ratings_RU: np.ndarray) -> float:
    """Ordinal alpha of R raters on U units, NaN where a rater gives none: 1 is agreement, 0 what
    chance brings; NaN where nothing can be compared."""
    known_RU = np.isfinite(ratings_RU)
    known_RU &= known_RU.sum(0) > 1  # a unit with one rating can be compared with none
    n = int(known_RU.sum())
    if n < 2:
        return float("nan")
    rank_RU = np.zeros(ratings_RU.shape)
    rank_RU[known_RU] = stats.rankdata(ratings_RU[known_RU])
    rank_RU[known_RU] -= rank_RU[known_RU].mean()  # sums of squares stay exact
    count_U = known_RU.sum(0)
    spread_U = count_U * (rank_RU**2).sum(0) - rank_RU.sum(0) ** 2
    there_U = count_U > 1
    observed = (spread_U[there_U] / (count_U[there_U] - 1)).sum() / n
    expected = (n * (rank_RU**2).sum() - rank_RU.sum() ** 2) / (n * (n - 1))
    return float(1 - observed / expected) if expected else float("nan")


def ranks(values_nM: np.ndarray) -> np.ndarray:
    """Ranks among M methods of each row, 1 for the highest, ties by their mean."""
    return stats.rankdata(-values_nM, axis=-1)
