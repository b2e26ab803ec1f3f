"""Insertion and deletion curves: the target's output as players appear or vanish in order.

Point k is the model's real output with the first k players inserted (visible) or deleted (hidden);
both end points are evaluated. The AUC is the trapezoid over the fraction of pixels, no rescaling.
"""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from torch import Tensor

from pipeline.game import Ask, Coalitions, Elsewhere, Game, Objective, Outputs
from pipeline.identity import name_of
from pipeline.judges.areas import auc
from pipeline.masking import Masking
from pipeline.players import View
from pipeline.searches import prefixes

OF_CLASSES = ("probability", "top1", "auc_probability", "auc_top1", "flip")
"""Columns that say something of a class."""


def elsewhere(
    order: list[int],
    objective: Objective,
    masking: Masking | None,
    cut: Callable[[View], Tensor] | None = None,
) -> Elsewhere:
    """The question for a curve in another game of the same image."""

    def play(game: Game) -> Generator[Ask, Outputs, Outputs]:
        return curve(order, game.n_players, objective, game.ends)

    return Elsewhere(play, cut=cut, masking=masking)


def judged_under(masking: Masking | None) -> dict[str, str]:
    """The column that says it, where it is not the run's."""
    return {} if masking is None else {"curve_masking": name_of(masking)}


def columns(
    outputs: Outputs, fraction_G: np.ndarray, objective: Objective, fixed_start: bool = False
) -> dict[str, Any]:
    """Columns of a curve: its points, areas and flip. Of a scalar output `log_odds` is the output
    and all that is said of classes is None."""
    if outputs.is_scalar:
        points = {"fraction": fraction_G, "log_odds": outputs.value_C.numpy()}
        return points | dict.fromkeys(OF_CLASSES)
    probability_G = outputs.probability_C.numpy()
    top1_G = outputs.top1_C
    if fixed_start:
        top1_G = top1_G.clone()
        top1_G[0] = objective == "deletion"
    return {
        "fraction": fraction_G,
        "probability": probability_G,
        "log_odds": outputs.value_C.numpy(),
        "top1": top1_G.numpy(),
        "auc_probability": auc(fraction_G, probability_G),
        "auc_top1": auc(fraction_G, top1_G.numpy()),
        "flip": flip(top1_G, objective),
    }


def reversed_order(order: list[int], n_players: int) -> list[int]:
    """Least important first: players that an order leaves out, which nobody ranks, by their index
    before its last."""
    return sorted(set(range(n_players)) - set(order)) + order[::-1]


def coalitions(order: list[int], n_players: int, objective: Objective) -> Tensor:
    """What is visible after each pick, bool (len(order), N)."""
    picked_CN = prefixes(order, n_players)
    return picked_CN if objective == "insertion" else ~picked_CN


def curve(
    order: list[int],
    n_players: int,
    objective: Objective,
    ends: Outputs,
    path: Outputs | None = None,
) -> Generator[Ask, Outputs, Outputs]:
    """Coroutine: outputs at both end points and after each pick, G = n + 1 points for a full order.

    `ends` answers the empty and the full coalition. `path` holds what the search itself saw along
    the order, where it played under the same masking: then nothing is asked again. An order that
    stops early is closed by the end point, with all players picked.
    """
    first, last = (ends[:1], ends[1:]) if objective == "insertion" else (ends[1:], ends[:1])
    complete = len(order) == n_players
    if path is None:
        inner = order[:-1] if complete else order
        asked_CN = coalitions(inner, n_players, objective)
        path = (yield Coalitions(asked_CN)) if inner else ends[:0]
    else:
        path = path[:-1] if complete else path
    return Outputs.cat([first, path, last])


def fractions(order: list[int], share_N: Tensor) -> np.ndarray:
    """Fraction of pixels picked at each point of the curve, float64, from 0 to 1."""
    steps = np.concatenate([[0.0], np.cumsum(share_N.numpy()[order])])
    if len(order) < len(share_N):
        steps = np.append(steps, 1.0)
    steps[-1] = 1.0
    return steps


def flip(top1_G: Tensor, objective: Objective) -> int | None:
    """First k at which the target is the prediction (insertion) or no longer is (deletion)."""
    hit = (top1_G if objective == "insertion" else ~top1_G).nonzero()
    return int(hit[0]) if len(hit) else None
