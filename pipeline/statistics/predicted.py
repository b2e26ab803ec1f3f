"""A cheap method on all images, an expensive one on a random part: what it would say of all.

theta = mean over labelled of (y - l f) + l mean over the others of f, with y the expensive and f
the cheap value; l minimises the variance (prediction-powered inference: Angelopoulos et al.,
Science 2023; the tuned l: arXiv 2311.01453). With l = 0 the cheap method is of no use.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """The mean over all images with its interval, from `n` images with both values and `others`
    with the cheap one alone; `alone_low`, `alone_high`: what the n images say without it."""

    mean: float
    low: float
    high: float
    n: int
    others: int
    tuned: float
    alone: float
    alone_low: float
    alone_high: float


def predicted(
    exact_n: np.ndarray, cheap_n: np.ndarray, cheap_m: np.ndarray, *, confidence: float = 0.95
) -> Predicted:
    """The mean of what is exact. `cheap_n`: of the same n images (at least 3), a random choice of
    all; `cheap_m`: of all the others."""
    n, m = len(exact_n), len(cheap_m)
    side, tuned = (1 + confidence) / 2, 0.0
    spread = cheap_n.var(ddof=1)  # of the n alone, as the covariance: their errors cancel
    if m > 1 and spread > 0:
        covariance = float(np.cov(exact_n, cheap_n)[0, 1])
        tuned = covariance / (spread * (1 + n / m))
    rest_n = exact_n - tuned * cheap_n
    mean = float(rest_n.mean() + (tuned * cheap_m.mean() if tuned else 0.0))
    lost = 2 if tuned else 1  # degrees of freedom: l is estimated, too
    reach = float(stats.t.ppf(side, n - lost))
    variance = rest_n.var(ddof=lost) / n + (tuned**2 * cheap_m.var(ddof=1) / m if tuned else 0.0)
    reach_alone = float(stats.t.ppf(side, n - 1))
    alone, error = float(exact_n.mean()), float(exact_n.std(ddof=1) / np.sqrt(n))
    return Predicted(
        mean=mean,
        low=mean - reach * float(np.sqrt(variance)),
        high=mean + reach * float(np.sqrt(variance)),
        n=n,
        others=m,
        tuned=tuned,
        alone=alone,
        alone_low=alone - reach_alone * error,
        alone_high=alone + reach_alone * error,
    )
