"""Shapley values: a player's marginal contribution, averaged over the coalitions before it.

phi_i = sum_{S in N \\ i} |S|! (n - |S| - 1)! / n! [v(S + i) - v(S)]  (Shapley 1953)
      = mean over sizes s = 0..n-1 of the mean over |S| = s of [v(S + i) - v(S)]
      = mean over orders of [v(players before i, and i) - v(players before i)].

The first line is summed by ShapleyExact, the second sampled by ShapleyMoxi (the baseline in the
code of MoXI, CVPR 2024), the third by ShapleyPermutation (Castro et al. 2009; reversed orders:
Mitchell et al., JMLR 2022). The ends v(empty) and v(N) are the game's and cost nothing.
"""

from dataclasses import dataclass
from math import comb
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.game import OBJECTIVES, Coalitions, Game
from pipeline.methods import Coroutine
from pipeline.methods.sampling import result

MAX_EXACT = 16
"""Most players whose 2^n coalitions are all evaluated."""

CHUNK = 4096
"""Most coalitions that ShapleyExact asks for at once."""


@dataclass(frozen=True, kw_only=True)
class ShapleyMoxi:
    """The estimator of MoXI's authors: sizes stratified by chance, coalitions not shared.

    A round draws one r ~ U(0, 1) and for each player i a uniform coalition m of floor((n - 1) r)
    others; phi_i is the mean of v(m + i) - v(m) over rounds. Size n - 1 never occurs, so the mean
    is over the other sizes: it tends to (n phi_i - [v(N) - v(N \\ i)]) / (n - 1), not to phi_i.
    """

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES
    rounds: int = 200
    seed: int = 0

    def __post_init__(self):
        if self.rounds < 1:
            raise UsageError(f"rounds={self.rounds}: use at least 1")

    def most_forwards(self, n_players: int) -> int:
        """2n a round: each player's coalition without and with it."""
        return 2 * n_players * self.rounds

    def explain(self, game: Game) -> Coroutine:
        """Ask for one round at a time."""
        n, rng = game.n_players, game.rng(self.seed)
        total_N = torch.zeros(n, dtype=torch.float64)
        for _ in range(self.rounds):
            size = int((n - 1) * rng.random())
            without_NN = coalitions_of_others(n, size, rng)
            with_NN = without_NN | torch.eye(n, dtype=torch.bool)
            outputs = yield Coalitions(torch.cat([without_NN, with_NN]))
            without_N, with_N = outputs.value_C.double().split(n)
            total_N += with_N - without_N
        return result(total_N / self.rounds, self.most_forwards(n))


@dataclass(frozen=True, kw_only=True)
class ShapleyPermutation:
    """Contributions along random orders, each followed by its reverse when `antithetic`.

    Unbiased, and sum_i phi_i = v(N) - v(empty). `forwards`: n - 1 an order, as many orders as they
    pay for, in pairs where `antithetic`, one order or pair at least. One order and its reverse
    suffice for a game without interactions of three players or more.
    """

    version: ClassVar[int] = 2
    searches = False
    objectives = OBJECTIVES
    forwards: int = 2400
    antithetic: bool = True
    seed: int = 0

    def __post_init__(self):
        if self.forwards < 1:
            raise UsageError(f"forwards={self.forwards}: use at least 1")

    def most_forwards(self, n_players: int) -> int:
        """n - 1 an order."""
        return (n_players - 1) * self.orders(n_players)

    def orders(self, n_players: int) -> int:
        """How many the budget pays for, reversed ones too."""
        together = 2 if self.antithetic else 1
        return together * max(1, self.forwards // (together * max(1, n_players - 1)))

    def explain(self, game: Game) -> Coroutine:
        """Ask for one permutation, or one pair, at a time."""
        n, rng = game.n_players, game.rng(self.seed)
        ends_E = game.ends.value_C.double()
        empty, full = ends_E.split(1)
        total_N = torch.zeros(n, dtype=torch.float64)
        orders = self.orders(n)
        for _ in range(orders // 2 if self.antithetic else orders):
            walk_N = torch.from_numpy(rng.permutation(n))
            walks = [walk_N, walk_N.flip(0)] if self.antithetic else [walk_N]
            inner_CN = torch.cat([proper_prefixes(walk_N) for walk_N in walks])
            # a lone player has nothing between the ends
            inner_C = (yield Coalitions(inner_CN)).value_C.double() if n > 1 else ends_E[:0]
            for walk_N, part_C in zip(walks, inner_C.chunk(len(walks)), strict=True):
                total_N[walk_N] += torch.cat([empty, part_C, full]).diff()
        return result(total_N / orders, self.most_forwards(n))


@dataclass(frozen=True, kw_only=True)
class ShapleyExact:
    """The definition itself, for at most 16 players."""

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def most_forwards(self, n_players: int) -> int:
        """2^n - 2. Raises UsageError, a ValueError, for more than 16 players."""
        if n_players > MAX_EXACT:
            raise UsageError(
                f"exact Shapley values of n={n_players} players need 2^{n_players} forwards: "
                f"use shapley_permutation, or at most {MAX_EXACT} players"
            )
        return 2**n_players - 2

    def explain(self, game: Game) -> Coroutine:
        """Ask for all coalitions, in chunks; bit i of a coalition's number is player i.

        Raises UsageError, a ValueError, for more than 16 players.
        """
        n = game.n_players
        evaluations = self.most_forwards(n)
        coalition_M = torch.arange(2**n)
        member_MN = (coalition_M[:, None] >> torch.arange(n)) & 1 == 1
        value_M = torch.empty(2**n, dtype=torch.float64)
        value_M[[0, -1]] = game.ends.value_C.double()
        for start in range(1, 2**n - 1, CHUNK):
            chunk = slice(start, min(start + CHUNK, 2**n - 1))
            value_M[chunk] = (yield Coalitions(member_MN[chunk])).value_C.double()
        weight_S = torch.tensor([1 / (n * comb(n - 1, s)) for s in range(n)], dtype=torch.float64)
        size_M = member_MN.sum(1)
        scores_N = torch.empty(n, dtype=torch.float64)
        for player in range(n):
            without = coalition_M[~member_MN[:, player]]
            gains = value_M[without + 2**player] - value_M[without]
            scores_N[player] = weight_S[size_M[without]] @ gains
        return result(scores_N, evaluations)


def coalitions_of_others(n_players: int, size: int, rng: np.random.Generator) -> Tensor:
    """(N, N): row i is uniform over the coalitions of `size` players that lack player i."""
    keys_NN = rng.random((n_players, n_players))
    np.fill_diagonal(keys_NN, np.inf)
    bound_N = np.partition(keys_NN, size, axis=1)[:, size]
    return torch.from_numpy(keys_NN < bound_N[:, None])


def proper_prefixes(walk_N: Tensor) -> Tensor:
    """Coalitions (N - 1, N) of the first 1, 2, ... N - 1 players of an order."""
    return walk_N.argsort() < torch.arange(1, len(walk_N))[:, None]
