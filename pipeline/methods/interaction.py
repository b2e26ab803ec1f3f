"""How much more a pick is worth together with the players picked before it than alone."""

import torch
from torch import Tensor

from pipeline.game import Objective, Outputs


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
