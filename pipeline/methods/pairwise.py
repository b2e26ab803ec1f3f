"""Interactions of all pairs of players, and the order that a second-order game gives.

Self-context (insertion): I0(i, j) = v(ij) - v(i) - v(j) + v(empty). Full context (deletion):
I_d(i, j) = [v(N) - v(N-i) - v(N-j) + v(N-ij)] / (n - 1) (MoXI, Sec. 3). n(n-1)/2 + n forwards for
each objective, beside the two end points.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pipeline.game import OBJECTIVES, Coalitions, Game
from pipeline.methods import Attribution, Coroutine, Explanation, rank
from pipeline.methods.moxi_minus import singles

ROWS_PER_QUERY = 4096


@dataclass(frozen=True, kw_only=True)
class Pairwise:
    """`Attribution.pairs` holds I(i, j) for i < j, row by row: `torch.triu_indices(n, n, 1)`.

    Players are ranked by their share of the game truncated after pairs: what a player does alone
    and half of each of its joint effects (the Shapley value of that game).
    """

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def most_forwards(self, n_players: int) -> int:
        """n singles and n(n-1)/2 pairs for each objective."""
        return 2 * (n_players + n_players * (n_players - 1) // 2)

    def explain(self, game: Game) -> Coroutine:
        """Singles first, then all pairs, in queries of bounded size."""
        n = game.n_players
        empty, full = game.ends.value_C.double()
        one, other = torch.triu_indices(n, n, 1)
        found: Explanation = {}
        for objective in self.objectives:
            outputs = yield Coalitions(singles(n, objective))
            single_N = outputs.value_C.double()
            parts = []
            for i, j in zip(one.split(ROWS_PER_QUERY), other.split(ROWS_PER_QUERY), strict=True):
                both_CN = torch.zeros(len(i), n, dtype=torch.bool)
                both_CN[torch.arange(len(i)), i] = True
                both_CN[torch.arange(len(i)), j] = True
                outputs = yield Coalitions(both_CN if objective == "insertion" else ~both_CN)
                parts.append(outputs.value_C.double())
            start = empty if objective == "insertion" else full
            joint_P = torch.cat(parts) - single_N[one] - single_N[other] + start
            gain_N = single_N - start  # of toggling one player
            effect_N = gain_N.index_add(0, one, joint_P / 2).index_add(0, other, joint_P / 2)
            found[objective] = Attribution(
                order=rank(effect_N if objective == "insertion" else -effect_N),
                scores_N=effect_N if objective == "insertion" else -effect_N,
                singles_N=single_N.float(),
                pairs=(joint_P if objective == "insertion" else joint_P / (n - 1)).float(),
                evaluations=n + len(joint_P),
            )
        return found
