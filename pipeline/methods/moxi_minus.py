"""MoXI(-), without interactions: rank once by self-context (insertion) or leave-one-out (deletion).

The ablation of MoXI (CVPR 2024): v({i}) - v(empty), or v(N) - v(N \\ i). n forwards an objective.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.game import OBJECTIVES, Coalitions, Game, Objective
from pipeline.methods import Attribution, Coroutine, Explanation, rank


@dataclass(frozen=True, kw_only=True)
class MoxiMinus:
    """No settings; an order for each objective."""

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def most_forwards(self, n_players: int) -> int:
        """n for each objective."""
        return 2 * n_players

    def explain(self, game: Game) -> Coroutine:
        """v({i}) falling, v(N \\ i) rising."""
        found: Explanation = {}
        empty, full = game.ends.value_C
        for objective in self.objectives:
            single_N = (yield Coalitions(singles(game.n_players, objective))).value_C
            scores_N = single_N - empty if objective == "insertion" else full - single_N
            found[objective] = Attribution(
                order=rank(scores_N),
                evaluations=game.n_players,
                scores_N=scores_N,
                singles_N=single_N,
            )
        return found


def singles(n_players: int, objective: Objective) -> Tensor:
    """Coalitions (N, N): one player visible each, or hidden."""
    one_NN = torch.eye(n_players, dtype=torch.bool)
    return one_NN if objective == "insertion" else ~one_NN
