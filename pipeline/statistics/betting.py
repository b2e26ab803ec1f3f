"""A confidence sequence for a mean of finitely many bounded values, drawn without replacement.

Bets against the claim that the mean is m: with x in [0, 1] and m_t = (N m - x_1 - ... - x_t-1) /
(N - t + 1), what the claim makes of the t-th mean, the wealth

    K_t(m) = mean over f of product over i <= t of (1 + f (x_i / m_i - 1))

is a martingale if m is true, so that it ever reaches 2 / alpha has a chance of at most alpha / 2
(Ville). The same with 1 - x bets that the mean is less. What was never refuted is an interval, and
true at all times together with a chance of 1 - alpha, however often one looks (Waudby-Smith and
Ramdas, arXiv 2006.04347 and 2010.09686). The mixture over fractions f learns how boldly to bet.
"""

import numpy as np

FRACTIONS = np.geomspace(0.02, 0.98, 6)
"""Of the stake that could at most be lost: few, since each takes its share of the wealth."""
HALVINGS = 30
CERTAIN = 1e-9
"""Of a mean, more than what sums of floats are wrong by."""
BLOCK = 65536
"""Values whose wealth is in memory at once."""


def refuted(values_n: np.ndarray, total: int, mean: float, alpha: float) -> int | None:
    """After how many values the claim is refuted that the mean of all `total` is `mean` or less;
    None where it never is. Values lie in [0, 1], in random order."""
    wealth_F, past, enough = np.zeros(len(FRACTIONS)), 0.0, np.log(2 / alpha)
    for start in range(0, len(values_n), BLOCK):
        x_n = values_n[start : start + BLOCK]
        before_n = past + np.concatenate([[0.0], np.cumsum(x_n[:-1])])
        claimed_n = (total * mean - before_n) / (total - start - np.arange(len(x_n)))
        # what came is more than the claim leaves to come: certain, however it goes on
        sure_n = before_n + x_n > total * (mean + CERTAIN)
        odds_n = x_n / np.maximum(claimed_n, 1e-12) - 1
        wealth_nF = wealth_F + np.cumsum(np.log1p(FRACTIONS * odds_n[:, None]), 0)
        top_n = wealth_nF.max(1)
        mixed_n = top_n + np.log(np.exp(wealth_nF - top_n[:, None]).mean(1))
        if (won_n := sure_n | (mixed_n >= enough)).any():
            return start + int(won_n.argmax()) + 1
        wealth_F, past = wealth_nF[-1], before_n[-1] + x_n[-1]
    return None


def interval(values_n: np.ndarray, total: int, alpha: float = 0.05) -> tuple[float, float]:
    """Bounds of the mean of all `total` values in [-1, 1], of which these came first."""
    x_n = (1 + np.asarray(values_n, dtype=float)) / 2
    low = _boundary(x_n, total, alpha)
    high = 1 - _boundary(1 - x_n, total, alpha)
    return 2 * low - 1, 2 * high - 1


def _boundary(x_n: np.ndarray, total: int, alpha: float) -> float:
    """The largest mean that is refuted as too low: those below are, those above are not."""
    low, high = 0.0, 1.0
    if not len(x_n):
        return low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if refuted(x_n, total, middle, alpha) is None:
            high = middle
        else:
            low = middle
    return low
