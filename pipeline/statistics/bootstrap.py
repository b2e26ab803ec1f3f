"""A mean with its interval: the percentile bootstrap over images that lie in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Band:
    """A mean over images on a common grid, with its pointwise interval; arrays of shape (G,)."""

    mean_G: np.ndarray
    low_G: np.ndarray
    high_G: np.ndarray

    @classmethod
    def nothing(cls, points: int) -> "Band":
        """Of no images."""
        return cls(**dict.fromkeys(("mean_G", "low_G", "high_G"), np.full(points, np.nan)))


def bootstrap_weights(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n images is drawn in each resample, over n: float64 (R, n), in blocks of
    64 resamples, which fit into memory whatever n is."""
    for done in range(0, resamples, 64):
        rng = np.random.default_rng(seed + done)
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(64, resamples - done)) / n


def intervals(
    values_nG: np.ndarray, *, resamples: int, seed: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the mean over images of each column, (G,) each."""
    weights = bootstrap_weights(len(values_nG), resamples, seed)
    means_RG = np.concatenate([weights_Rn @ values_nG for weights_Rn in weights])
    tail = (1 - confidence) / 2
    low_G, high_G = np.quantile(means_RG, [tail, 1 - tail], axis=0)
    return low_G, high_G
