"""Collaboration: how little is left of the decision without the picked players.

1 - p_y(N - S), as the authors compute it; or `cosine`, as they print it: 1 - cos(F(N - S), F(N))
of features (SMDL, eq. 8).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from pipeline import UsageError
from pipeline.scores.terms import Seen, cosine, probability


@dataclass(frozen=True, kw_only=True)
class Collaboration:
    """`read`: `probability` or `cosine`."""

    version: ClassVar[int] = 1
    weight: float = 1.0
    read: Literal["probability", "cosine"] = "probability"

    def __post_init__(self):
        if self.read not in ("probability", "cosine"):
            raise UsageError(f"collaboration.read={self.read!r}: use 'probability' or 'cosine'")

    @property
    def needs(self) -> set[Any]:
        """Outputs of all others, for the cosine with features."""
        return {"left"} if self.read == "probability" else {"left", "features", "whole"}

    def __call__(self, seen: Seen) -> Tensor:
        """At most 1."""
        if self.read == "probability":
            return 1 - probability(seen.left)
        return 1 - cosine(seen.left, seen.whole_1D)
