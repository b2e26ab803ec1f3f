"""Explain any class, also one that is not predicted (MoXI, Fig. 5), by two phases of deletion.

A: while the target t is not the prediction, hide the player whose loss lowers z_c0 - z_t most, c0
being the prediction on the whole image, among players that support c0 and hurt t (d0 > 0, dt < 0
with d(b) = z(V) - z(V - b)); among all where there is none. B: while t is the prediction, hide the
player whose loss lowers v_t most. Players of phase B carry t.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from pipeline.game import Coalitions, Game, Objective, Outputs
from pipeline.methods import Attribution, Coroutine
from pipeline.scores.target import TIES
from pipeline.searches import first_best, joined


@dataclass(frozen=True, kw_only=True)
class ClassTargeted:
    """For a target that is the prediction, phase A is empty: greedy deletion up to the flip.

    `Attribution.details`: `reached`, whether t became the prediction; `phase_a` and `phase_b`, the
    players hidden in each; `without_candidate`, steps of A where no player met both conditions.
    The order is A, then B.
    """

    version: ClassVar[int] = 1
    searches = True
    objectives: ClassVar[tuple[Objective, ...]] = ("deletion",)

    def most_forwards(self, n_players: int) -> int:
        """At most n(n+1)/2: step k scores the players that are still visible."""
        return n_players * (n_players + 1) // 2

    def explain(self, game: Game) -> Coroutine:
        """Hide players until t falls, or none is left."""
        hidden_N = np.zeros(game.n_players, dtype=bool)
        tie = TIES["log_odds"]
        now = game.ends[1:]
        order: list[int] = []
        path: list[Outputs] = []
        evaluations = phase_a = without_candidate = 0
        reached = bool(now.top1_C[0])
        while len(order) < game.n_players and (not reached or bool(now.top1_C[0])):
            visible = np.flatnonzero(~hidden_N)
            outputs = yield Coalitions(~joined(hidden_N, visible))
            evaluations += len(visible)
            if reached:
                best = first_best(-outputs.value_C, tie)
            else:
                target_C = now.logits_CT[0, 0] - outputs.logits_CT[:, 0]
                rival_C = now.logits_CT[0, 1] - outputs.logits_CT[:, 1]
                fits_C = (rival_C > 0) & (target_C < 0)
                without_candidate += int(not fits_C.any())
                fall_C = rival_C - target_C
                fall_C = fall_C.where(fits_C, -torch.inf) if fits_C.any() else fall_C
                best = first_best(fall_C, tie)
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
