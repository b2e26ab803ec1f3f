"""MoXI: greedy search for the set of players with the best joint value (CVPR 2024, Algs. 1, 2).

Insertion: b_k = argmax_b v(S + b), which is argmax [phi0(b) + I0(S, b)], eqs. 4 and 7.
Deletion: b_k = argmin_b v(N \\ (S + b)), Algorithm 2 (the decomposition printed as eq. 13 is not
equivalent to it). n(n+1)/2 forwards for a full order of n players: only remaining ones are scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.methods import OBJECTIVES, Attribution, Coroutine, Game, Objective, Outputs, rank

TIE = 1e-5
"""Log-odds closer than this are a tie, which the lowest index wins: just above fp32 noise, so that
batching cannot decide between players that make no difference (a patch equal to its fill, say)."""


@dataclass(frozen=True, kw_only=True)
class Moxi:
    """Greedy search for one objective.

    `stop`: `full` ranks every player; `flip` ends once the target is the prediction (insertion) or
    no longer is (deletion); `budget` ends after `budget` players.
    """

    searches: ClassVar[bool] = True
    objective: Objective
    stop: Literal["full", "flip", "budget"] = "full"
    budget: int | None = None

    def __post_init__(self):
        if self.objective not in OBJECTIVES:
            raise UsageError(f"objective={self.objective!r}: use one of {list(OBJECTIVES)}")
        if self.stop not in ("full", "flip", "budget"):
            raise UsageError(f"stop={self.stop!r}: use 'full', 'flip' or 'budget'")
        if (self.stop == "budget") != (self.budget is not None) or (self.budget or 1) < 1:
            raise UsageError("stop=budget needs budget=<players, at least 1>, and only it does")

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The order serves the objective that it was searched for."""
        return (self.objective,)

    def evaluations(self, n_players: int, objectives: Sequence[Objective]) -> int:
        """n(n+1)/2 for a full order: step k scores the n - k + 1 players that remain."""
        rest = max(0, n_players - self.budget) if self.budget else 0
        return n_players * (n_players + 1) // 2 - rest * (rest + 1) // 2

    def explain(self, game: Game, objectives: Sequence[Objective]) -> Coroutine:
        """Pick one player a step until the search stops."""
        sign = {"insertion": 1, "deletion": -1}[self.objective]
        picked_N = torch.zeros(game.n_players, dtype=torch.bool)
        order: list[int] = []
        path: list[Outputs] = []
        evaluations, singles_N = 0, None
        while len(order) < min(game.n_players, self.budget or game.n_players):
            candidates = (~picked_N).nonzero().flatten()
            outputs = yield toggled(picked_N, candidates, self.objective)
            evaluations += len(candidates)
            if singles_N is None:
                singles_N = outputs.value_C
            best = first_best(sign * outputs.value_C)
            order.append(int(candidates[best]))
            path.append(outputs[best : best + 1])
            picked_N[candidates[best]] = True
            flipped = bool(outputs.top1_C[best]) == (self.objective == "insertion")
            if self.stop == "flip" and flipped:
                break
        return {
            self.objective: Attribution(
                order=order, evaluations=evaluations, path=Outputs.cat(path), singles_N=singles_N
            )
        }


@dataclass(frozen=True, kw_only=True)
class MoxiMinus:
    """MoXI(-), without interactions: rank once by self-context (insertion) or leave-one-out."""

    searches: ClassVar[bool] = False

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """An order for each."""
        return OBJECTIVES

    def evaluations(self, n_players: int, objectives: Sequence[Objective]) -> int:
        """n for each objective."""
        return n_players * len(objectives)

    def explain(self, game: Game, objectives: Sequence[Objective]) -> Coroutine:
        """n forwards an objective: v({i}) falling, or v(N \\ i) rising."""
        found: dict[Objective, Attribution] = {}
        nobody_N = torch.zeros(game.n_players, dtype=torch.bool)
        empty, full = game.ends.value_C
        for objective in objectives:
            everyone = torch.arange(game.n_players)
            outputs = yield toggled(nobody_N, everyone, objective)
            single_N = outputs.value_C
            scores_N = single_N - empty if objective == "insertion" else full - single_N
            found[objective] = Attribution(
                order=rank(scores_N),
                evaluations=game.n_players,
                scores_N=scores_N,
                singles_N=single_N,
            )
        return found


def toggled(picked_N: Tensor, candidates: Tensor, objective: Objective) -> Tensor:
    """Coalitions (C, N): what is visible when one candidate joins the picked players.

    Insertion shows the picked, deletion shows all but them.
    """
    coalitions_CN = picked_N.repeat(len(candidates), 1)
    coalitions_CN[torch.arange(len(candidates)), candidates] = True
    return coalitions_CN if objective == "insertion" else ~coalitions_CN


def first_best(value_C: Tensor) -> int:
    """Index of the largest value; the lowest index among those within TIE of it."""
    return int((value_C >= value_C.max() - TIE).nonzero()[0])
