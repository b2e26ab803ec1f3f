"""KernelSHAP (Lundberg & Lee, NeurIPS 2017): Shapley values as a regression on coalitions.

min over phi of sum_S w(S) [v(S) - v(empty) - sum_{i in S} phi_i]^2, sum_i phi_i = v(N) - v(empty),
with w(S) = (n - 1) / (C(n, s) s (n - s)). Sizes whose coalitions the budget pays for are evaluated
whole, smallest and largest first; of the others coalitions are drawn by that weight, each with its
complement (Covert & Lee, AISTATS 2021). Where the budget holds all 2^n - 2 the values are exact.
"""

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline.game import OBJECTIVES, Game, Read
from pipeline.methods import Coroutine
from pipeline.methods.sampling import check, result, values_of

DRAWS = 4
"""Coalitions drawn for each that is wanted: some come twice."""


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
        coalitions_CN, weight_C = weighted(n, self.forwards, game.rng(self.seed))
        value_C, asked = yield from values_of(coalitions_CN, game, self.read)
        x_CN = coalitions_CN.double()
        return result(constrained(x_CN, value_C - empty, weight_C, full - empty), asked)


def weighted(n_players: int, forwards: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """At most `forwards` coalitions (C, N), none of them twice, and their weights (C,)."""
    mass = {s: (1 if 2 * s == n_players else 2) / (s * (n_players - s)) for s in sizes(n_players)}
    blocks, weights, left = [], [], forwards
    for size in sizes(n_players):
        both = [size] if 2 * size == n_players else [size, n_players - size]
        count = len(both) * comb(n_players, size)
        if left * mass[size] < count * sum(mass.values()):
            break
        blocks += [of_size(n_players, s) for s in both]
        weights.append(torch.full((count,), mass.pop(size) / count, dtype=torch.float64))
        left -= count
    if mass and left >= 2:
        pairs_PN, drawn_P = pairs(n_players, mass, left // 2, rng)
        share_P = torch.from_numpy(drawn_P / (2 * drawn_P.sum())) * sum(mass.values())
        blocks += [pairs_PN, ~pairs_PN]
        weights += [share_P, share_P]
    return torch.cat(blocks), torch.cat(weights)


def sizes(n_players: int) -> range:
    """Of the smaller of a coalition and its complement."""
    return range(1, n_players // 2 + 1)


def of_size(n_players: int, size: int) -> Tensor:
    """All coalitions of a size, bool (C, N)."""
    members_CS = torch.tensor(list(combinations(range(n_players), size)))
    return torch.zeros(len(members_CS), n_players, dtype=torch.bool).scatter_(1, members_CS, True)


def pairs(
    n_players: int, mass: dict[int, float], count: int, rng: np.random.Generator
) -> tuple[Tensor, np.ndarray]:
    """Coalitions, one of each pair, drawn among sizes by their `mass` until there are `count`
    different ones: bool (P, N), and how often each was drawn."""
    chance_S = np.array(list(mass.values()))
    size_D = rng.choice(list(mass), size=DRAWS * count, p=chance_S / chance_S.sum())
    place_DN = rng.random((len(size_D), n_players)).argsort(1).argsort(1)
    drawn_DN = place_DN < size_D[:, None]
    drawn_DN[2 * size_D == n_players] ^= ~drawn_DN[2 * size_D == n_players][:, :1]  # one of two
    packed_DB = np.packbits(drawn_DN, axis=1)
    _, first_U, which_D = np.unique(packed_DB, axis=0, return_index=True, return_inverse=True)
    firsts = np.sort(first_U)
    end = firsts[count] if len(firsts) > count else len(size_D)
    drawn_U = np.bincount(which_D.reshape(-1)[:end], minlength=len(first_U))
    kept_U = np.flatnonzero(first_U < end)
    return torch.from_numpy(drawn_DN[first_U[kept_U]]), drawn_U[kept_U].astype(np.float64)


def constrained(x_CN: Tensor, y_C: Tensor, weight_C: Tensor, total: float) -> Tensor:
    """Weighted least squares without intercept whose slopes (N,) sum to `total`; the shortest
    solution where there are several."""
    scaled_NC = x_CN.T * (weight_C / weight_C.sum())
    inverse_NN = torch.linalg.pinv(scaled_NC @ x_CN, hermitian=True)
    free_N = inverse_NN @ (scaled_NC @ y_C)
    toward_N = inverse_NN.sum(1)
    return free_N + toward_N * (total - free_N.sum()) / toward_N.sum()
