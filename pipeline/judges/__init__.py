"""How an order, or heat, is judged: a coroutine over the image's game under one masking.

A judge's columns say what it measures in one number: `measure` names it and `value` holds it. One
that plays a curve fills the columns of curves besides.
"""

from collections.abc import Generator
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from pipeline.game import Ask, Game, Objective
from pipeline.maps import fine, ranks
from pipeline.methods import Attribution

Verdict = Generator[Ask, Any, dict[str, Any]]
"""Coroutine: columns of the row."""


class Judge(Protocol):
    """A frozen dataclass; `version` as of methods. `members`, where it has them, are extensions of
    members of the tar that `game.view.sample` is to hold (boxes, say)."""

    version: ClassVar[int]

    def forwards(self, n_players: int) -> int:
        """At the most, for one objective of an order whose outputs are not known."""
        ...

    def judge(self, found: Attribution, objective: Objective, game: Game) -> Verdict:
        """Columns of the row; `found.path` holds what the search saw under the game's masking, if
        it did."""
        ...


def values(found: Attribution, n_players: int) -> Tensor:
    """Importance of each player, float64 (N,): the method's scores, or else ranks along its order,
    n - k for the k-th pick."""
    if found.scores_N is not None:
        return found.scores_N.double()
    return torch.from_numpy(ranks(found.order, n_players))


def heat(found: Attribution, game: Game) -> Tensor:
    """Importance of each pixel, float32 (H, W): the method's heat, or else `values` of players."""
    if game.regions_HW is None:
        raise ValueError("the game has no image whose pixels could be judged")
    if found.heat_hw is not None:
        return fine(found.heat_hw, game.regions_HW.shape)
    return values(found, game.n_players).float()[game.regions_HW]
