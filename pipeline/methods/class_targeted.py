"""Explain any class, also one that is not predicted (MoXI, Fig. 5), by two phases of deletion.

A: while the target t is not the prediction, hide the player whose loss lowers z_c0 - z_t most, c0
being the prediction on the whole image, among players that support c0 and hurt t (d0 > 0, dt < 0
with d(b) = z(V) - z(V - b)); among all where there is none. B: while t is the prediction, hide the
player whose loss lowers v_t most. Players of phase B carry t.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from pipeline.methods import Attribution, Coroutine, Game, Objective, Outputs
from pipeline.methods.moxi import first_best, toggled


@dataclass(frozen=True, kw_only=True)
class ClassTargeted:
    """For a target that is the prediction, phase A is empty: greedy deletion up to the flip.

    `Attribution.details`: `reached`, whether t became the prediction; `phase_a` and `phase_b`, the
    players hidden in each; `without_candidate`, steps of A where no player met both conditions.
    The order is A, then B.
    """

    searches: ClassVar[bool] = True

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Players are hidden."""
        return ("deletion",)

    def evaluations(self, n_players: int, objectives: Sequence[Objective]) -> int:
        """At most n(n+1)/2: step k scores the players that are still visible."""
        return n_players * (n_players + 1) // 2

    def explain(self, game: Game, objectives: Sequence[Objective]) -> Coroutine:
        """Hide players until t falls, or none is left."""
        hidden_N = torch.zeros(game.n_players, dtype=torch.bool)
        now = game.ends[1:]
        order: list[int] = []
        path: list[Outputs] = []
        evaluations = phase_a = without_candidate = 0
        reached = bool(now.top1_C[0])
        while len(order) < game.n_players and (not reached or bool(now.top1_C[0])):
            visible = (~hidden_N).nonzero().flatten()
            outputs = yield toggled(hidden_N, visible, "deletion")
            evaluations += len(visible)
            if reached:
                best = first_best(-outputs.value_C)
            else:
                target_C = now.logits_CT[0, 0] - outputs.logits_CT[:, 0]
                rival_C = now.logits_CT[0, 1] - outputs.logits_CT[:, 1]
                fits_C = (rival_C > 0) & (target_C < 0)
                without_candidate += int(not fits_C.any())
                fall_C = rival_C - target_C
                best = first_best(fall_C.where(fits_C, -torch.inf) if fits_C.any() else fall_C)
                phase_a += 1
            order.append(int(visible[best]))
            hidden_N[visible[best]] = True
            now = outputs[best : best + 1]
            path.append(now)
            reached = reached or bool(now.top1_C[0])
        details = {
            "reached": reached,
            "phase_a": phase_a,
            "phase_b": len(order) - phase_a,
            "without_candidate": without_candidate,
        }
        found = Attribution(
            order=order,
            evaluations=evaluations,
            path=Outputs.cat(path),
            details=details,
        )
        return {"deletion": found}
