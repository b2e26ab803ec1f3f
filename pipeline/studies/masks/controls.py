"""Controls: what else blurs as much as an optimised mask, and what it does to the target.

`random` puts the mask's values into cells drawn at random, `shifted` moves the mask as a whole
(round the edges), each DRAWS times, of which the mean is kept; `inverse_saliency` puts the
strongest blur where the target's gradient is least. All three keep the mask's area: cells at the
border cover fewer pixels, so what was moved is scaled to it. `full_blur` blurs everything. `greedy`
hides whole patches, the one that helps most at each step, as many as come nearest to the area.
"""

import numpy as np
import torch
from torch import Tensor

CONTROLS = ("random", "shifted", "inverse_saliency", "full_blur", "greedy")
SAME_AREA = ("random", "shifted", "inverse_saliency")
MASKED = (*SAME_AREA, "full_blur")
"""Controls that are masks over the same cells."""
DRAWS = {"random": 8, "shifted": 8}
"""How often a control is drawn; the others are what they are."""


def control(name: str, mask_cc: Tensor, saliency_cc: Tensor, rng: np.random.Generator) -> Tensor:
    """The mask (cells, cells) of one of MASKED."""
    if name == "random":
        return mask_cc.flatten()[torch.from_numpy(rng.permutation(mask_cc.numel()))].view_as(
            mask_cc
        )
    if name == "shifted":
        cells = len(mask_cc)
        down, right = divmod(int(rng.integers(1, cells * cells)), cells)  # never (0, 0)
        return mask_cc.roll((down, right), (0, 1))
    if name == "inverse_saliency":
        found = torch.empty_like(mask_cc).flatten()
        # the least salient cells get the smallest values: 0 is blurred
        found[saliency_cc.flatten().argsort(stable=True)] = mask_cc.flatten().sort().values
        return found.view_as(mask_cc)
    if name == "full_blur":
        return torch.zeros_like(mask_cc)
    raise ValueError(f"{name} is no mask")


def of_area(mask_cc: Tensor, area: float, shares_cc: Tensor) -> Tensor:
    """The mask, its blur scaled so that it covers `area`, cells that would exceed 1 staying there.

    `area`: mean over pixels of 1 - M'; `shares_cc`: what each cell adds to it, the sum being 1.
    """
    blurred_c, shares_c = 1 - mask_cc.flatten().double(), shares_cc.flatten().double()
    order = blurred_c.argsort(descending=True)
    blurred_c, shares_c = blurred_c[order], shares_c[order]
    # scale_c[k]: what is asked of the other cells when the k most blurred ones are full
    full_c = shares_c.cumsum(0) - shares_c
    others_c = (shares_c * blurred_c).flip(0).cumsum(0).flip(0)
    scale_c = (area - full_c) / others_c
    fits = torch.nonzero((scale_c * blurred_c <= 1) & (others_c > 0))
    if not len(fits):  # full wherever it blurs at all, and still too little
        return (mask_cc == 1).to(mask_cc.dtype)
    return 1 - (float(scale_c[fits[0]]) * (1 - mask_cc)).clamp(max=1)
