"""The Bayesian bootstrap, of any number of images in one pass: each unit has weights of its own.

Means under Dirichlet(1, ..., 1) weights over units are draws from what is known of the true mean
(Rubin, Ann. Statist. 1981). Independent exponentials, normalised, are such weights; a unit's depend
on nothing but the seed and its name, so that sums over batches, in any order, in any subset, for
any method, are of the same draws: a difference of two methods is that of their means in each.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.statistics.bootstrap import Band


def unit(*names: object) -> int:
    """A unit's number, by its name, 64 bits."""
    said = "\0".join(map(str, names)).encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")


def units(names: Iterable[tuple[object, ...]]) -> np.ndarray:
    """Numbers of many, uint64."""
    return np.fromiter((unit(*name) for name in names), np.uint64)


def weights(unit_n: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Weights of units in each resample, float64 (R, n), not normalised; equal units weigh the
    same."""
    one_u, place_n = np.unique(unit_n, return_inverse=True)
    drawn_uR = np.empty((len(one_u), resamples))
    for i, number in enumerate(one_u.tolist()):
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
        rng.standard_exponential(out=drawn_uR[i])
    return drawn_uR[place_n].T


@dataclass(kw_only=True)
class Sums:
    """Weighted sums of K columns over images, so far: `over_RK` and `under_R` by resample, `sum_K`
    and `n` as they are."""

    over_RK: np.ndarray
    under_R: np.ndarray
    sum_K: np.ndarray
    n: int = 0

    @classmethod
    def nothing(cls, resamples: int, columns: int) -> "Sums":
        """Of no images."""
        over_RK, under_R = np.zeros((resamples, columns)), np.zeros(resamples)
        return cls(over_RK=over_RK, under_R=under_R, sum_K=np.zeros(columns))

    def add(self, values_nK: np.ndarray, weights_Rn: np.ndarray) -> None:
        """More images."""
        self.over_RK += weights_Rn @ values_nK
        self.under_R += weights_Rn.sum(1)
        self.sum_K += values_nK.sum(0, dtype=np.float64)
        self.n += len(values_nK)

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            over_RK=self.over_RK + other.over_RK,
            under_R=self.under_R + other.under_R,
            sum_K=self.sum_K + other.sum_K,
            n=self.n + other.n,
        )

    def mean(self) -> np.ndarray:
        """(K,), NaN of no images."""
        return self.sum_K / self.n if self.n else np.full_like(self.sum_K, np.nan)

    def drawn(self) -> np.ndarray:
        """Means in each resample, (R, K)."""
        return self.over_RK / self.under_R[:, None]

    def band(self, n_units: int, confidence: float) -> Band:
        """Means with their intervals, whose width is that of Student's t of so many units: plain
        quantiles are too narrow where these are few. Of one unit the interval is a point."""
        if not self.n:
            return Band.nothing(len(self.sum_K))
        mean_K, tail = self.mean(), (1 - confidence) / 2
        low_K, high_K = np.quantile(self.drawn(), [tail, 1 - tail], axis=0)
        wider = widening(n_units, confidence)
        return Band(
            mean_G=mean_K,
            low_G=np.minimum(mean_K, mean_K + wider * (low_K - mean_K)),
            high_G=np.maximum(mean_K, mean_K + wider * (high_K - mean_K)),
        )


def widening(n_units: int, confidence: float) -> float:
    """Student's over the normal quantile, and what the variance s^2 (n - 1) / n / (n + 1) of the
    draws lacks to s^2 / n."""
    if n_units < 2:
        return 1.0
    side = (1 + confidence) / 2
    by_t = stats.t.ppf(side, n_units - 1) / stats.norm.ppf(side)
    return float(by_t * np.sqrt((n_units + 1) / (n_units - 1)))
