"""The loss of masks of undesirable pixels: eqs. 3 to 7 as printed, with gradients that are finite.

See `pipeline.methods.undesirable` for the formulas.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

ROOM = {"tv": 1e-8, "norm": 1e-12}
"""Added under roots for their gradients, which at 0 are infinite; values go without it."""


class Loss:
    """Each row's loss, (B,), for masks and the logits that they lead to.

    `variants`: an `Undesirable` a row; what a batch shares is read of the first.
    """

    def __init__(self, variants: Sequence[Any], targets: Sequence[int], plain_BK: Tensor):
        device, self.how = plain_BK.device, variants[0]
        self.target_B1 = torch.tensor(targets, device=device)[:, None]
        self.plain_BK = plain_BK

        def each(value: Callable[[Any], float]) -> Tensor:
            return torch.tensor([float(value(v)) for v in variants], device=device)

        self.tv_B = each(lambda v: v.tv_weight)
        self.l1_B = each(lambda v: v.l1_weight)
        self.others_B = each(lambda v: v.gamma * (v.anchor == "others"))
        self.own_B = each(lambda v: v.gamma * (v.anchor == "target"))
        self.constant_B = each(lambda v: v.anchor == "target" and v.score == "probability")

    def __call__(self, mask_Bcc: Tensor, logits_BK: Tensor) -> Tensor:
        """Without noise where the logits are."""
        score_B = logits_BK.log_softmax(1).gather(1, self.target_B1)[:, 0]
        if self.how.score == "probability":
            score_B = score_B.exp()
        total_B = self.constant_B - score_B + self._regulariser(mask_Bcc)
        change_BK = logits_BK - self.plain_BK
        own_B = change_BK.gather(1, self.target_B1)[:, 0]
        total_B = total_B + self.own_B * root(own_B**2, 2.0, ROOM["norm"])
        return total_B + self.others_B * self._others(change_BK, own_B)

    def _regulariser(self, mask_Bcc: Tensor) -> Tensor:
        beta = self.how.beta
        # forward differences, 0 beyond the last row and column
        dx_Bcc = pad(mask_Bcc.diff(dim=2), (0, 1)).abs() ** beta
        dy_Bcc = pad(mask_Bcc.diff(dim=1), (0, 0, 0, 1)).abs() ** beta
        tv_Bcc = dx_Bcc + dy_Bcc
        tv_Bcc = root(tv_Bcc, beta, ROOM["tv"]) if self.how.tv == "root" else tv_Bcc
        blurred_Bcc = (1 - mask_Bcc).abs()
        terms_Bcc = self.tv_B[:, None, None] * tv_Bcc + self.l1_B[:, None, None] * blurred_Bcc
        return terms_Bcc.mean((1, 2)) if self.how.reduction == "mean" else terms_Bcc.sum((1, 2))

    def _others(self, change_BK: Tensor, own_B: Tensor) -> Tensor:
        others = change_BK.shape[1] - 1
        if self.how.norm == "mean":
            mean_B = (change_BK.sum(1) - own_B) / others
            return root(mean_B**2, 2.0, ROOM["norm"])
        zeroed_BK = change_BK.scatter(1, self.target_B1, 0.0)
        return root((zeroed_BK**2).sum(1) / others, 2.0, ROOM["norm"])


def root(x: Tensor, degree: float, room: float) -> Tensor:
    """x ** (1 / degree), with the gradient of (x + room) ** (1 / degree): finite at 0."""
    smooth = (x + room) ** (1 / degree)
    return smooth + (x ** (1 / degree) - smooth).detach()
