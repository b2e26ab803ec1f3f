"""A mean of images that come in clusters: those of one identity, class or source vary together.

Var(mean) = G / (G - 1) * sum over clusters of (sum of deviations in it)^2 / n^2, Student's t with
G - 1 degrees of freedom (Liang and Zeger, Biometrika 1986; for evaluations: Miller, arXiv
2411.00640). With every image a cluster of its own this is the usual interval of a mean.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over `n` images in so many `clusters`: its interval, its standard `error`, and the
    `design_effect`, by which clusters multiply its variance. NaN where it cannot be known."""

    mean: float
    low: float
    high: float
    error: float
    n: int
    clusters: int
    design_effect: float


def estimate(
    values_n: np.ndarray, cluster_n: np.ndarray | None = None, *, confidence: float = 0.95
) -> Estimate:
    """Mean of finite values with its interval; `cluster_n`: the cluster of each, by any code; of
    fewer than two clusters the bounds are NaN."""
    n = len(values_n)
    code_n = np.arange(n) if cluster_n is None else np.unique(cluster_n, return_inverse=True)[1]
    clusters = int(code_n.max()) + 1 if n else 0
    mean = float(values_n.mean()) if n else float("nan")
    if clusters < 2:
        nothing = dict.fromkeys(("low", "high", "error", "design_effect"), float("nan"))
        return Estimate(mean=mean, n=n, clusters=clusters, **nothing)
    off_n = values_n - mean
    sums_c = np.bincount(code_n, off_n, clusters)
    error = float(np.sqrt(clusters / (clusters - 1) * (sums_c**2).sum()) / n)
    alone = float(np.sqrt(n / (n - 1) * (off_n**2).sum()) / n)
    reach = float(stats.t.ppf((1 + confidence) / 2, clusters - 1)) * error
    return Estimate(
        mean=mean,
        low=mean - reach,
        high=mean + reach,
        error=error,
        n=n,
        clusters=clusters,
        design_effect=(error / alone) ** 2 if alone else 1.0,
    )
