"""Terms of a submodular score (SMDL, ICLR 2024), each of which rates sets in one way.

A term is a frozen dataclass with a `weight`; `needs` says what it looks at, so that nothing else is
asked for.
"""

from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from torch import Tensor

from pipeline.game import Outputs

Need = Literal["shown", "left", "entropy", "features", "singles", "whole"]
"""Outputs where the picked are visible, or all others; entropy and features of those; features of
single players, or of the whole image."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What terms are told of C sets, as far as they need it.

    `picked_CN`: bool. `distances_NN`: between the features of single players, float64, 0 to 1.
    `whole_1D`: features of the whole image.
    """

    picked_CN: Tensor
    shown: Outputs | None = None
    left: Outputs | None = None
    distances_NN: Tensor | None = None
    whole_1D: Tensor | None = None


class Term(Protocol):
    """See the module's docstring."""

    version: ClassVar[int]

    @property
    def weight(self) -> float:
        """Lambda; 0 leaves the term out."""
        ...

    @property
    def needs(self) -> Set[Need]:
        """What `Seen` must hold."""
        ...

    def __call__(self, seen: Seen) -> Tensor:
        """Values (C,), not weighted, float64."""
        ...


def probability(outputs: Outputs | None) -> Tensor:
    """Of the target, float64 (C,)."""
    assert outputs is not None
    return outputs.probability_C


def cosine(outputs: Outputs | None, whole_1D: Tensor | None) -> Tensor:
    """Of features with those of the whole image, float64 (C,)."""
    assert outputs is not None and outputs.features_CD is not None and whole_1D is not None
    features_CD, whole_1D = outputs.features_CD.double(), whole_1D.double()
    lengths_C = features_CD.norm(dim=1) * whole_1D.norm()
    return (features_CD @ whole_1D.flatten()) / lengths_C.clamp_min(1e-12)
