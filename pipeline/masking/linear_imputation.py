"""ROAD's noisy linear imputation: hidden pixels are the mean of their neighbours, and noise.

Rong et al., ICML 2022 (arXiv:2202.00449), section 4: weight 1/6 for the four next pixels, 1/12 for
the diagonal ones, at the border those that exist; Gaussian noise on hidden pixels.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.engine.device import to_device
from pipeline.masking import Shown
from pipeline.masking.multigrid import filled
from pipeline.masking.pixels import PixelMasking
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class LinearImputation(PixelMasking):
    """`noise`: its standard deviation in raw pixels of 0..1, as the authors add it, not clipped.

    It is the same for all images of a size, so that equal coalitions show equal pixels. Where all
    is hidden, and nothing can be imputed, the data set's mean colour is shown, with noise.
    """

    noise: float = 0.01
    seed: int = 0

    def __post_init__(self):
        if self.noise < 0:
            raise UsageError(f"masking.noise={self.noise}: give 0 or a positive number")

    def fill(self, model: Model, image_CHW: Tensor) -> Tensor:
        """Zeros (1, 1, 1): what pixels show of which nothing is known."""
        return torch.zeros((1, 1, 1), device=image_CHW.device)

    def compose(self, model: Model, parts: list[Shown]) -> Tensor:
        """Impute all rows (B, C, H, W), in float32, in one go."""
        height, width = model.input_hw
        visible, images = [], []
        for (image_CHW, _, regions_P), coalitions_CN in parts:
            rows = to_device(coalitions_CN, model.device)[:, regions_P]
            visible.append(rows.view(-1, height, width))
            images.append(image_CHW.float().expand(len(rows), -1, -1, -1))
        hidden_BHW = ~torch.cat(visible)
        raw_C11 = model.normalise(1.0) - model.normalise(0.0)  # what 1 in raw pixels is here
        x_BCHW = filled(torch.cat(images), hidden_BHW, float(raw_C11.min()))
        field_CHW = self.noise * raw_C11 * _field(self.seed, x_BCHW.shape[1:])
        noisy_BCHW = x_BCHW + to_device(field_CHW, model.device)
        x_BCHW = torch.where(hidden_BHW[:, None], noisy_BCHW, x_BCHW)
        return x_BCHW.to(model.dtype, memory_format=torch.channels_last)


@lru_cache(maxsize=4)
def _field(seed: int, shape: torch.Size) -> Tensor:
    """Standard normal noise (C, H, W)."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
