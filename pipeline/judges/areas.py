"""Areas under curves. Published tools disagree about what that is; these are the ones they mean.

Of p(f) = exp(-20 f), true area .0500: the trapezoid of RISE's 224 steps gives .0500, that of
Xplique's 10 steps .0657, the mean of MoXI's 196 patches without the first point .0475.
"""

from typing import Literal

import numpy as np

Area = Literal["trapezoid", "mean"]


def auc(fraction_G: np.ndarray, y_G: np.ndarray) -> float:
    """Area under the curve by the trapezoid rule; x runs from 0 to 1, nothing is rescaled."""
    return float(np.trapezoid(np.asarray(y_G, dtype=np.float64), fraction_G))


def mean_of_steps(y_G: np.ndarray) -> float:
    """Mean over all points but the first, as MoXI's accuracies over k = 1..n are averaged."""
    return float(np.mean(np.asarray(y_G, dtype=np.float64)[1:]))
