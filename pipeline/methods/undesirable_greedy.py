"""Undesirable players without gradients: greedy deletion that raises the target's value.

Each step hides the player whose loss raises v most, b = argmax_b v(N \\ (S + b)); the set game's
counterpart of F-TC (pipeline.methods.undesirable), to be played under blur.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from pipeline import UsageError
from pipeline.methods import Attribution, Coroutine, Game, Objective, Outputs
from pipeline.methods.moxi import TIE, first_best, toggled


@dataclass(frozen=True, kw_only=True)
class UndesirableGreedy:
    """Ends once no player raises v or `budget` players are hidden; with `stop` = `flip` also once a
    target that was not the prediction becomes it (`gain`: goes on). The order holds the players
    hidden, none where nothing raises v."""

    budget: int | None = None
    stop: Literal["flip", "gain"] = "flip"

    searches: ClassVar[bool] = True

    def __post_init__(self):
        if self.budget is not None and self.budget < 0:
            raise UsageError(f"budget={self.budget}: give 0 or more players, or null")
        if self.stop not in ("flip", "gain"):
            raise UsageError(f"stop={self.stop!r}: use 'flip' or 'gain'")

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Players are hidden."""
        return ("deletion",)

    def evaluations(self, n_players: int, objectives: Sequence[Objective]) -> int:
        """At most n(n+1)/2, and one step more than there are undesirable players."""
        rest = max(0, n_players - self.budget) if self.budget is not None else 0
        return n_players * (n_players + 1) // 2 - rest * (rest + 1) // 2

    def explain(self, game: Game, objectives: Sequence[Objective]) -> Coroutine:
        """Hide players while that helps the target."""
        hidden_N = torch.zeros(game.n_players, dtype=torch.bool)
        now, order, path = game.ends[1:], list[int](), list[Outputs]()
        goes_on = self.stop == "gain" or bool(now.top1_C[0])
        limit = game.n_players if self.budget is None else min(self.budget, game.n_players)
        evaluations, singles_N = 0, None
        while len(order) < limit and (goes_on or not bool(now.top1_C[0])):
            visible = (~hidden_N).nonzero().flatten()
            outputs = yield toggled(hidden_N, visible, "deletion")
            evaluations += len(visible)
            if singles_N is None:
                singles_N = outputs.value_C
            best = first_best(outputs.value_C)
            if float(outputs.value_C[best]) <= float(now.value_C[0]) + TIE:
                break
            order.append(int(visible[best]))
            hidden_N[visible[best]] = True
            now = outputs[best : best + 1]
            path.append(now)
        return {
            "deletion": Attribution(
                order=order,
                evaluations=evaluations,
                path=Outputs.cat(path) if path else game.ends[:0],
                singles_N=singles_N if path else None,
            )
        }
