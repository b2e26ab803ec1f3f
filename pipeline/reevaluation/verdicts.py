"""Three verdicts on a paired quantity, by its interval and a tolerance t; more is worse.

    pass          the interval of the mean lies below t (between -t and t, of two-sided quantities)
    regression    it lies wholly beyond
    inconclusive  it holds a border of the tolerance: more images are needed,
                  n = ((z_c + z_p) s / gap)^2                             of a mean,
                  n = ((z_c sqrt(t(1 - t)) + z_p sqrt(p(1 - p))) / gap)^2  of a share p

with the standard deviation s of the paired differences, the gap between the mean and that border,
and normal quantiles z of the confidence and of the power: the chance that so many images decide,
if the mean is what it seems. Means have bootstrap intervals, shares Wilson's, which hold where no
image has changed at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.stats import binomtest, norm

from pipeline.compare.agreement import interval

LEAST = 8
"""Images below which nothing is decided: fewer do not tell their spread."""
MOST = 10_000_000
"""Images beyond which it is no use to ask for more: the mean lies on the tolerance."""
PASS, REGRESSION, INCONCLUSIVE = "pass", "regression", "inconclusive"
Word = Literal["pass", "regression", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """Paired differences of n images, positive where it has become worse, and what is tolerated.

    `kind`: auc, orders, flips or moved; `subject`: whose; `two_sided`: change in either direction
    counts; `share`: differences are 0 or 1; `same`: both sides hold the very same rows, by address.
    """

    kind: str
    subject: str
    tolerance: float
    values_n: np.ndarray = field(repr=False)
    two_sided: bool = False
    share: bool = False
    same: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is said of a quantity; `needed`: images in all that should decide, None where that is
    decided already or more than MOST."""

    kind: str
    subject: str
    tolerance: float
    two_sided: bool
    word: Word
    n: int
    mean: float
    low: float
    high: float
    sd: float
    needed: int | None
    why: str

    @property
    def title(self) -> str:
        """Kind and subject."""
        return f"{self.kind}: {self.subject}" if self.subject else self.kind


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How intervals are made, and with which chance the images that are asked for should decide."""

    confidence: float
    resamples: int
    seed: int
    power: float


def decide(quantity: Quantity, rule: Rule) -> Verdict:
    """The verdict on one quantity."""
    values_n, n = quantity.values_n, len(quantity.values_n)
    mean = float(values_n.mean()) if n else math.nan
    sd = float(values_n.std(ddof=1)) if n > 1 else math.nan
    low, high = bounds(quantity, rule)
    needed: int | None = None
    if quantity.same and n and not values_n.any():
        word, why = PASS, "the same rows: checkpoint, settings and images are those of the baseline"
    elif n < LEAST:
        word, why, needed = INCONCLUSIVE, f"{n} images are too few, {LEAST} is the least", LEAST
    else:
        word, why = _word(quantity, low, high)
        if word == INCONCLUSIVE:
            needed = images_needed(quantity, mean, sd, rule)
            more = "too many: the mean lies on the tolerance" if needed is None else f"{needed:,}"
            why = f"{why}; images that should decide: {more}"
    return Verdict(
        kind=quantity.kind,
        subject=quantity.subject,
        tolerance=quantity.tolerance,
        two_sided=quantity.two_sided,
        word=word,
        n=n,
        mean=mean,
        low=low,
        high=high,
        sd=sd,
        needed=needed,
        why=why,
    )


def overall(verdicts: Sequence[Verdict]) -> Word:
    """The worst of all; inconclusive of none."""
    words = {verdict.word for verdict in verdicts} or {INCONCLUSIVE}
    return next(word for word in (REGRESSION, INCONCLUSIVE, PASS) if word in words)


def bounds(quantity: Quantity, rule: Rule) -> tuple[float, float]:
    """The interval of a quantity's mean."""
    values_n = quantity.values_n
    if quantity.share and len(values_n) and not quantity.same:
        test = binomtest(int(values_n.sum()), len(values_n))
        found = test.proportion_ci(rule.confidence, method="wilson")
        return float(found.low), float(found.high)
    how = {"resamples": rule.resamples, "seed": rule.seed, "confidence": rule.confidence}
    return interval(values_n, **how)


def images_needed(quantity: Quantity, mean: float, sd: float, rule: Rule) -> int | None:
    """How many images should decide, if the mean and the spread are what they seem; more than there
    are. None beyond MOST."""
    t = quantity.tolerance
    gap = abs(t - (abs(mean) if quantity.two_sided else mean))
    surely, likely = norm.ppf((1 + rule.confidence) / 2), norm.ppf(rule.power)
    if quantity.share:
        spread = surely * math.sqrt(t * (1 - t)) + likely * math.sqrt(mean * (1 - mean))
    else:
        spread = (surely + likely) * sd
    if spread >= gap * math.sqrt(MOST):
        return None
    return max(len(quantity.values_n) + 1, math.ceil((spread / gap) ** 2))


def _word(quantity: Quantity, low: float, high: float) -> tuple[Word, str]:
    t = quantity.tolerance
    inside = high <= t and (low >= -t or not quantity.two_sided)
    beyond = low > t or (high < -t and quantity.two_sided)
    if inside:
        return PASS, "the interval lies inside the tolerance"
    if beyond:
        return REGRESSION, "the interval lies wholly beyond the tolerance"
    return INCONCLUSIVE, "the interval reaches beyond the tolerance, and not wholly"
