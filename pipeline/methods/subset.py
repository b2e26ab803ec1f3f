"""A score and a search: players ordered so that the first of them make a set worth much.

MoXI (CVPR 2024, Algs. 1, 2) is a greedy search on log-odds: argmax_b v(S + b) is
argmax [phi0(b) + I0(S, b)], eqs. 4 and 7; deletion is argmin_b v(N \\ (S + b)), Algorithm 2 (the
decomposition printed as eq. 13 is not equivalent to it).
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.game import Ask, Game, Objective, Outputs, tallied
from pipeline.game.memory import remembered
from pipeline.identity import LATER
from pipeline.maps import assigned_values, both_ways
from pipeline.methods import Attribution, Coroutine, Explanation
from pipeline.scores import Score, Scored
from pipeline.searches import Found, Search, Stop


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Any score under any search.

    `stop`: `full` ranks every player, `flip` ends once the prediction is what the score wants,
    `budget` after `budget` players, which may bound the others as well. Also `gain`: where no
    player adds to the score any more; `area`: before more of the pixels than this fraction are
    picked; `reach`: once the score is at least this.
    """

    version: ClassVar[int] = 1
    searches = True
    score: Score
    search: Search
    stop: Literal["full", "flip", "budget"] = "full"
    budget: int | None = None
    gain: bool = False
    area: float | None = field(default=None, metadata=LATER)
    reach: float | None = field(default=None, metadata=LATER)

    def __post_init__(self):
        if self.stop not in ("full", "flip", "budget"):
            raise UsageError(f"stop={self.stop!r}: use 'full', 'flip' or 'budget'")
        if self.stop == "budget" and self.budget is None:
            raise UsageError("stop=budget needs budget=<players, at least 1>")
        if self.budget is not None and self.budget < (1 if self.stop == "budget" else 0):
            raise UsageError(f"budget={self.budget}: give 1 or more players, or null")
        if self.area is not None and not 0 < self.area <= 1:
            raise UsageError(f"area={self.area}: give a fraction of the pixels, up to 1, or null")

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The score says whose curve its search looks at."""
        return self.score.objectives

    def most_forwards(self, n_players: int) -> int:
        """Of the score and the search."""
        once, per_set = self.score.forwards(n_players)
        return once + self.search.forwards(n_players, per_set, self._stop)

    def explain(self, game: Game) -> Coroutine:
        """Open the score, search; F's own look at an order is its curve."""
        # a search of one side counts its last step, n(n+1)/2 in all, as the papers do
        ends = game.ends if len(self.objectives) > 1 else None
        searched = remembered(self._found(game), game.n_players, ends)
        found, asked = yield from tallied(searched)
        explanation: Explanation = {}
        scores_N = _assigned(found, game)
        for objective in self.objectives:
            path, singles = (_seen(s, objective) for s in (found.path, found.singles))
            explanation[objective] = Attribution(
                order=found.order,
                evaluations=asked,
                scores_N=scores_N,
                path=path if found.order else game.ends[:0],
                singles_N=singles.value_C if singles and found.order else None,
                details=found.details,
            )
        return explanation

    def _found(self, game: Game) -> Generator[Ask, Any, Found]:
        value = yield from self.score.open(game)
        return (yield from self.search(value, game, self._stop))

    @property
    def _stop(self) -> Stop:
        return Stop(
            budget=self.budget,
            area=self.area,
            reach=self.reach,
            flip=self.stop == "flip",
            gain=self.gain,
        )


def _assigned(found: Found, game: Game) -> Tensor | None:
    """A value for every player, of an order along which both sides were seen."""
    if found.path is None or found.path.shown is None or found.path.left is None:
        return None
    empty, full = game.ends.value_C
    shown_G = np.append(float(empty), found.path.shown.value_C)
    left_G = np.append(float(full), found.path.left.value_C)
    values_G = both_ways(*(1 / (1 + np.exp(-odds_G)) for odds_G in (shown_G, left_G)))
    return torch.from_numpy(assigned_values(found.order, values_G, game.n_players))


def _seen(scored: Scored | None, objective: Objective) -> Outputs | None:
    if scored is None:
        return None
    return scored.shown if objective == "insertion" else scored.left
