"""Controls: what else blurs as much as an optimised mask, and what it does to the target.

`random` puts the mask's values into cells drawn at random, `shifted` moves the mask as a whole
(round the edges), `inverse_saliency` puts the strongest blur where the target's gradient is least;
all three keep every value of the mask, hence its area. `full_blur` blurs everything. `greedy` hides
whole patches by pipeline.methods.undesirable_greedy, as many as come nearest to the mask's area.
"""

import numpy as np
import torch
from torch import Tensor

CONTROLS = ("random", "shifted", "inverse_saliency", "full_blur", "greedy")
SAME_AREA = ("random", "shifted", "inverse_saliency")
MASKED = (*SAME_AREA, "full_blur")
"""Controls that are masks over the same cells."""


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
