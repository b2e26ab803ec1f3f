"""Whether one method is better than another by more than a margin, worse, or as good as equal.

Images count in a random order that nothing but a seed and their names decides, and the confidence
sequence of the mean difference (`betting`) may be looked at after each of them: the first time that
it lies wholly above the margin, below minus the margin, or between the two, it is decided, and that
is wrong in at most a share alpha of runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline import UsageError
from pipeline.statistics import betting
from pipeline.statistics.draws import unit

VERDICTS = ("better", "worse", "equivalent")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`verdict`: one of VERDICTS, None as long as it is open; `n` of `total` images led to it,
    whose mean difference is `difference`, that of all lying between `low` and `high`."""

    verdict: str | None
    n: int
    total: int
    difference: float
    low: float
    high: float
    margin: float
    alpha: float

    def text(self) -> str:
        """In a line."""
        seen = f"{self.n} of {self.total} images"
        where = f"difference {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"
        sure = f"{100 * (1 - self.alpha):g} % at all times together"
        if self.verdict is None:
            return f"not decided after {seen}: {where}, {sure}"
        by = f" by more than {self.margin:g}" if self.margin else ""
        said = (
            f"equal within {self.margin:g}" if self.verdict == "equivalent" else self.verdict + by
        )
        return f"decided on {seen}: {said}; {where}, {sure}"


def shuffled(images: Iterable[tuple[str, ...]], seed: int) -> list[tuple[str, ...]]:
    """Images in the random order of a seed, each where its name puts it."""
    return sorted(images, key=lambda image: (unit(seed, *image), image))


def decide(gain_n: np.ndarray, total: int, *, margin: float, alpha: float) -> Decision:
    """What the first n of all `total` images, in random order, say; `gain_n`: what the method is
    better by on each, -1 to 1. Raises UsageError for larger ones."""
    if len(gain_n) and np.abs(gain_n).max() > 1:
        raise UsageError("differences beyond 1: only quantities from 0 to 1 can be decided upon")
    x_n = (1 + gain_n) / 2
    above, below = (1 + margin) / 2, (1 - margin) / 2
    never = len(gain_n) + 1
    found = {
        "better": betting.refuted(x_n, total, above, alpha) or never,
        "worse": betting.refuted(1 - x_n, total, above, alpha) or never,
        "equivalent": never,
    }
    if margin:
        sides = (betting.refuted(side, total, below, alpha) or never for side in (x_n, 1 - x_n))
        found["equivalent"] = max(sides)
    verdict = min(VERDICTS, key=lambda name: found[name])
    n = min(found[verdict], len(gain_n))
    low, high = betting.interval(gain_n[:n], total, alpha)
    return Decision(
        verdict=verdict if found[verdict] < never else None,
        n=n,
        total=total,
        difference=float(gain_n[:n].mean()) if n else float("nan"),
        low=low,
        high=high,
        margin=margin,
        alpha=alpha,
    )
