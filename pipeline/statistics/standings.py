"""Who is best, and how sure that is: ranks of methods in draws of the Bayesian bootstrap.

Each draw weighs images anew, all methods alike; the share of draws in which a method leads is the
probability that it is best (Benavoli et al., JMLR 2017), and so for ranks and differences.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.statistics.draws import Sums, weights

BLOCK = 4096
"""Images whose weights are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Standings:
    """Of M methods on the same images: the mean of each, `drawn_RM` draws of it, all of what is
    better the higher."""

    mean_M: np.ndarray
    drawn_RM: np.ndarray

    @property
    def best_M(self) -> np.ndarray:
        """Probability of being best; ties share it."""
        leads_RM = self.drawn_RM == self.drawn_RM.max(1, keepdims=True)
        return (leads_RM / leads_RM.sum(1, keepdims=True)).mean(0)

    @property
    def ranks_MP(self) -> np.ndarray:
        """Probability of each method (M) to have each rank (P, first to last); ties take the
        better one."""
        rank_RM = stats.rankdata(-self.drawn_RM, axis=1, method="min").astype(int) - 1
        places = range(self.drawn_RM.shape[1])
        return np.stack([(rank_RM == place).mean(0) for place in places], 1)

    def better(self, one: int, other: int, margin: float = 0.0) -> float:
        """Probability that the first is better by more than a margin."""
        ahead_R = self.drawn_RM[:, one] - self.drawn_RM[:, other]
        return float((ahead_R > margin).mean())


def standings(values_nM: np.ndarray, unit_n: np.ndarray, *, resamples: int, seed: int) -> Standings:
    """Of finite values; `unit_n`: the unit (image or cluster, see `draws`) that a row is of."""
    sums = Sums.nothing(resamples, values_nM.shape[1])
    order_n = unit_n.argsort(kind="stable")  # a cluster's rows share their weights
    for start in range(0, len(values_nM), BLOCK):
        some = order_n[start : start + BLOCK]
        sums.add(values_nM[some], weights(unit_n[some], resamples, seed))
    return Standings(mean_M=sums.mean(), drawn_RM=sums.drawn())


def profile(values_n: np.ndarray, at_T: np.ndarray) -> np.ndarray:
    """Share of images whose value is above each threshold, (T,): a performance profile (Agarwal et
    al., NeurIPS 2021)."""
    ordered_n = np.sort(values_n)
    return 1 - np.searchsorted(ordered_n, at_T, side="right") / max(1, len(values_n))
