"""KernelSHAP (Lundberg & Lee, NeurIPS 2017): Shapley values as a regression on coalitions.

min over phi of sum_S w(S) [v(S) - v(empty) - sum_{i in S} phi_i]^2, sum_i phi_i = v(N) - v(empty),
with w(S) = (n - 1) / (C(n, s) s (n - s)). Coalitions are drawn by that weight, each with its
complement (Covert & Lee, AISTATS 2021); where the budget holds all 2^n - 2 of them the values are
exact.
"""

from dataclasses import dataclass
from math import comb
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline.game import OBJECTIVES, Game, Read
from pipeline.methods import Coroutine
from pipeline.methods.sampling import check, result, values_of


@dataclass(frozen=True, kw_only=True)
class KernelShap:
    """`forwards` coalitions at the most, 2 at least; `read`: log_odds, probability or logit of the
    target."""

    forwards: int = 1000
    read: Read = "probability"
    seed: int = 0

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        check("kernel_shap", self.read, self.forwards, least=2)

    def most_forwards(self, n_players: int) -> int:
        """One a coalition."""
        return min(self.forwards, 2**n_players - 2)

    def explain(self, game: Game) -> Coroutine:
        """Ask for all coalitions, or for pairs of them."""
        n = game.n_players
        empty, full = game.ends.reading(self.read).tolist()
        if n == 1:
            return result(torch.tensor([full - empty], dtype=torch.float64), 0)
        if self.forwards >= 2**n - 2:
            coalitions_CN = every_coalition(n)
            size_C = coalitions_CN.sum(1).tolist()
            weight_C = torch.tensor([1 / (comb(n, s) * s * (n - s)) for s in size_C]).double()
        else:
            coalitions_CN = pairs(n, self.forwards // 2, game.rng(self.seed))
            weight_C = torch.ones(len(coalitions_CN), dtype=torch.float64)
        value_C, asked = yield from values_of(coalitions_CN, game, self.read)
        x_CN = coalitions_CN.double()
        return result(constrained(x_CN, value_C - empty, weight_C, full - empty), asked)


def every_coalition(n_players: int) -> Tensor:
    """All but the empty and the full one, (2^n - 2, N); bit i of a number is player i."""
    number_M = torch.arange(1, 2**n_players - 1)
    return (number_M[:, None] >> torch.arange(n_players)) & 1 == 1


def pairs(n_players: int, count: int, rng: np.random.Generator) -> Tensor:
    """`count` coalitions drawn by the Shapley kernel, each followed by its complement."""
    sizes = np.arange(1, n_players)
    chance_S = 1 / (sizes * (n_players - sizes))
    size_P = rng.choice(sizes, size=count, p=chance_S / chance_S.sum())
    place_PN = rng.random((count, n_players)).argsort(1).argsort(1)
    drawn_PN = torch.from_numpy(place_PN < size_P[:, None])
    return torch.stack([drawn_PN, ~drawn_PN], 1).flatten(0, 1)


def constrained(x_CN: Tensor, y_C: Tensor, weight_C: Tensor, total: float) -> Tensor:
    """Weighted least squares without intercept whose slopes (N,) sum to `total`; the shortest
    solution where there are several."""
    scaled_NC = x_CN.T * (weight_C / weight_C.sum())
    inverse_NN = torch.linalg.pinv(scaled_NC @ x_CN, hermitian=True)
    free_N = inverse_NN @ (scaled_NC @ y_C)
    toward_N = inverse_NN.sum(1)
    return free_N + toward_N * (total - free_N.sum()) / toward_N.sum()
