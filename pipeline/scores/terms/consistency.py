"""Consistency: how much the picked players alone say what the whole image says.

p_y(S), the probability of the target, as the authors compute it; or `cosine`, as they print it:
cos(F(S), F(N)) of features (SMDL, eq. 7).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from pipeline import UsageError
from pipeline.scores.terms import Seen, cosine, probability


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """`read`: `probability` or `cosine`."""

    version: ClassVar[int] = 1
    weight: float = 1.0
    read: Literal["probability", "cosine"] = "probability"

    def __post_init__(self):
        if self.read not in ("probability", "cosine"):
            raise UsageError(f"consistency.read={self.read!r}: use 'probability' or 'cosine'")

    @property
    def needs(self) -> set[Any]:
        """Outputs of the picked, for the cosine with features."""
        return {"shown"} if self.read == "probability" else {"shown", "features", "whole"}

    def __call__(self, seen: Seen) -> Tensor:
        """At most 1."""
        if self.read == "probability":
            return probability(seen.shown)
        return cosine(seen.shown, seen.whole_1D)
