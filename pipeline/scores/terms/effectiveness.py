"""Effectiveness: how different the picked players are from one another.

sum_{i in S} min_{j in S, j != i} d(F(I_i), F(I_j)), d = arccos(cosine) / pi, F(I_i) the model's
features of player i alone (SMDL, ICLR 2024); 0 for a single player.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pipeline.scores.terms import Seen

ROWS = 64
"""Sets rated at once where they share nothing: N x N distances each."""


@dataclass(frozen=True, kw_only=True)
class Effectiveness:
    """No settings but the weight."""

    version: ClassVar[int] = 1
    weight: float = 1.0

    @property
    def needs(self) -> set[Any]:
        """Single players, once."""
        return {"singles"}

    def __call__(self, seen: Seen) -> Tensor:
        """0 to half the size of each set."""
        assert seen.distances_NN is not None
        return diversity(seen.picked_CN, seen.distances_NN)


def distances(features_ND: Tensor) -> Tensor:
    """Angles between features over pi, float64 (N, N)."""
    unit_ND = torch.nn.functional.normalize(features_ND.double(), dim=1)
    return (unit_ND @ unit_ND.T).clamp(-1, 1).arccos() / torch.pi


def diversity(picked_CN: Tensor, distances_NN: Tensor) -> Tensor:
    """Sum over each set's players of the distance to the nearest other one, float64 (C,).

    Where all sets are one common set and a player each, as in a greedy step, each costs but a row:
    sum_s min(nearest_s, d_sa) + min_s d_sa.
    """
    common_N = picked_CN.all(0)
    extra_CN = picked_CN & ~common_N
    if len(picked_CN) == 1 or not (extra_CN.sum(1) == 1).all():
        pieces = [_defined(rows_CN, distances_NN) for rows_CN in picked_CN.split(ROWS)]
        return torch.cat(pieces)
    if not common_N.any():
        return torch.zeros(len(picked_CN), dtype=torch.float64)
    added_C = extra_CN.int().argmax(1)
    near_CS = distances_NN[added_C][:, common_N]
    nearest_S = _nearest(common_N[None], distances_NN)[0, common_N]
    return torch.minimum(near_CS, nearest_S).sum(1) + near_CS.amin(1)


def _defined(picked_CN: Tensor, distances_NN: Tensor) -> Tensor:
    nearest_CN = _nearest(picked_CN, distances_NN)
    found_CN = torch.where(picked_CN & nearest_CN.isfinite(), nearest_CN, 0.0)
    return found_CN.sum(1)


def _nearest(picked_CN: Tensor, distances_NN: Tensor) -> Tensor:
    """Each player's distance to the nearest other one of a set, infinite where there is none."""
    others_NN = distances_NN.clone().fill_diagonal_(torch.inf)
    hidden_C1N = ~picked_CN[:, None, :]
    return others_NN.masked_fill(hidden_C1N, torch.inf).amin(2)
