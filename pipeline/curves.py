"""Insertion and deletion curves: the target's output as players appear or vanish in order.

Point k is the model's real output with the first k players inserted (visible) or deleted (hidden);
both end points are evaluated. The AUC is the trapezoid over the fraction of pixels, no rescaling.
"""

from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor

from pipeline.methods import Objective, Outputs


def coalitions(order: list[int], n_players: int, objective: Objective) -> Tensor:
    """What is visible after each pick, bool (len(order), N)."""
    picked_N = torch.zeros(n_players, dtype=torch.bool)
    picked_CN = picked_N.repeat(len(order), 1)
    for step, player in enumerate(order):
        picked_CN[step:, player] = True
    return picked_CN if objective == "insertion" else ~picked_CN


def curve(
    order: list[int],
    n_players: int,
    objective: Objective,
    ends: Outputs,
    path: Outputs | None = None,
) -> Generator[Tensor, Outputs, Outputs]:
    """Coroutine: outputs at both end points and after each pick, G = n + 1 points for a full order.

    `ends` answers the empty and the full coalition. `path` holds what the search itself saw along
    the order, where it played under the same masking: then nothing is asked again. An order that
    stops early is closed by the end point, with all players picked.
    """
    first, last = (ends[:1], ends[1:]) if objective == "insertion" else (ends[1:], ends[:1])
    complete = len(order) == n_players
    if path is None:
        inner = order[:-1] if complete else order
        path = (yield coalitions(order, n_players, objective)[: len(inner)]) if inner else ends[:0]
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


def interactions(
    order: list[int], objective: Objective, along: Tensor, singles_N: Tensor, ends: Outputs
) -> Tensor:
    """Interaction of each pick with the set picked before it, (len(order),), in log-odds.

    Insertion, self-context: I0(S, b) = v(S+b) - v(S) - v(b) + v(empty). Deletion, full context:
    I_d(S, b) = [v(N) - v(N-S) - v(N-b) + v(N-S-b)] / (n - |S|) (MoXI, Sec. 3). `along` holds v
    after each pick, `singles_N` v with one player toggled.
    """
    empty, full = ends.value_C
    start = empty if objective == "insertion" else full
    before = torch.cat([start[None], along[:-1]])
    joint = along - before - singles_N[order] + start
    if objective == "deletion":
        joint = joint / (len(singles_N) - torch.arange(len(order)))
    joint[0] = 0.0  # nothing was picked before
    return joint
