"""Insertion and deletion curves: the target's output as players appear or vanish in order.

Point k is the model's real output with the first k players inserted (visible) or deleted (hidden);
both end points are evaluated. The AUC is the trapezoid over the fraction of pixels, no rescaling.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from pipeline.game import Ask, Coalitions, Game, Objective, Outputs
from pipeline.methods import Attribution
from pipeline.searches import prefixes


@dataclass(frozen=True, kw_only=True)
class Regions:
    """One step a player, y = probability, log-odds and top-1 of the target."""

    version: ClassVar[int] = 1

    def forwards(self, n_players: int) -> int:
        """All points between the ends."""
        return n_players - 1

    def judge(
        self, found: Attribution, objective: Objective, game: Game
    ) -> Generator[Ask, Any, dict[str, Any]]:
        """Curve, areas, flip."""
        outputs = yield from curve(found.order, game.n_players, objective, game.ends, found.path)
        fraction_G = fractions(found.order, game.share_N)
        probability_G = outputs.value_C.double().sigmoid().numpy()  # log-odds = log p/(1-p)
        top1_G = outputs.top1_C
        return {
            "fraction": fraction_G,
            "probability": probability_G,
            "log_odds": outputs.value_C.numpy(),
            "top1": top1_G.numpy(),
            "auc_probability": auc(fraction_G, probability_G),
            "auc_top1": auc(fraction_G, top1_G.numpy()),
            "flip": flip(top1_G, objective),
        }


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


def auc(fraction_G: np.ndarray, y_G: np.ndarray) -> float:
    """Area under the curve by the trapezoid rule; x runs from 0 to 1."""
    return float(np.trapezoid(np.asarray(y_G, dtype=np.float64), fraction_G))


def flip(top1_G: Tensor, objective: Objective) -> int | None:
    """First k at which the target is the prediction (insertion) or no longer is (deletion)."""
    hit = (top1_G if objective == "insertion" else ~top1_G).nonzero()
    return int(hit[0]) if len(hit) else None
