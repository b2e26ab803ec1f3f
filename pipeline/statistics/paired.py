"""Two methods on the same images: how large their difference is, how sure, and what it would take.

A difference is `method - reference` on one image. Its mean has a cluster-robust interval;
Wilcoxon's signed-rank test asks whether differences lie to one side of 0 (one difference a cluster,
its mean); Holm's step-down corrects for how many comparisons were made (Scand. J. Statist. 1979).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from pipeline.statistics.clusters import Estimate, estimate

POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Of a method and a reference on n images.

    `mean`: the difference; `above`, `below`, `equal`: images by its sign; `improvement`: the share
    above, ties by half (rliable's probability of improvement with one run an image); `p`: Wilcoxon,
    two-sided; `rank_biserial`: (R+ - R-) / (R+ + R-), -1 to 1; `cohens_dz`: mean over standard
    deviation; `detectable`: the difference that so many images find with 80 % power; `more`: how
    many further images find the difference that was seen, 0 where the interval is clear of 0, None
    where there is no difference to find.
    """

    mean: Estimate
    above: int
    below: int
    equal: int
    improvement: Estimate
    p: float
    rank_biserial: float
    cohens_dz: float
    detectable: float
    more: int | None


def paired(
    difference_n: np.ndarray, cluster_n: np.ndarray | None = None, *, confidence: float = 0.95
) -> Paired:
    """What n finite differences say; `cluster_n` as of `estimate`."""
    mean = estimate(difference_n, cluster_n, confidence=confidence)
    sign_n = np.sign(difference_n)
    spread = float(difference_n.std(ddof=1)) if mean.n > 1 else float("nan")
    effort = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(POWER)
    return Paired(
        mean=mean,
        above=int((sign_n > 0).sum()),
        below=int((sign_n < 0).sum()),
        equal=int((sign_n == 0).sum()),
        improvement=estimate((1 + sign_n) / 2, cluster_n, confidence=confidence),
        p=_wilcoxon(_by_cluster(difference_n, cluster_n)),
        rank_biserial=_rank_biserial(difference_n),
        cohens_dz=mean.mean / spread if spread else float("nan"),
        detectable=float(effort * mean.error),
        more=_more(mean, float(effort)),
    )


def holm(p_m: Sequence[float], of: int | None = None) -> np.ndarray:
    """P values corrected for `of` comparisons (at least as many as given, and all given unless
    said): those not given count as if they came after all others."""
    values_m = np.asarray(p_m, dtype=float)
    order_m = values_m.argsort()
    factors_m = (of or len(values_m)) - np.arange(len(values_m))
    stepped_m = np.maximum.accumulate(values_m[order_m] * factors_m)
    found_m = np.empty_like(values_m)
    found_m[order_m] = np.minimum(stepped_m, 1)
    return found_m


def _by_cluster(difference_n: np.ndarray, cluster_n: np.ndarray | None) -> np.ndarray:
    if cluster_n is None:
        return difference_n
    _, code_n = np.unique(cluster_n, return_inverse=True)
    return np.bincount(code_n, difference_n) / np.bincount(code_n)


def _wilcoxon(difference_n: np.ndarray) -> float:
    """1 where nothing differs."""
    if not difference_n.any():
        return 1.0
    found: Any = stats.wilcoxon(difference_n)
    return float(found[1])


def _rank_biserial(difference_n: np.ndarray) -> float:
    """Kerby's matched-pairs form; 0 where nothing differs."""
    moved_n = difference_n[difference_n != 0]
    if not len(moved_n):
        return 0.0
    rank_n = stats.rankdata(np.abs(moved_n))
    return float((rank_n * np.sign(moved_n)).sum() / rank_n.sum())


def _more(found: Estimate, effort: float) -> int | None:
    """The variance of a mean falls as 1 / n, clustered or not, while clusters keep their size."""
    if found.low > 0 or found.high < 0:
        return 0
    if not found.mean or not math.isfinite(found.error):
        return None
    needed = found.n * (effort * found.error / found.mean) ** 2
    return max(1, math.ceil(needed - found.n))
