"""Zero after normalisation: hidden pixels show the data set's mean colour (MoXI's CNN setting)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.masking.pixels import PixelMasking
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class Zero(PixelMasking):
    """No settings."""

    def fill(self, model: Model, image_CHW: Tensor) -> Tensor:
        """Zeros (1, 1, 1)."""
        return torch.zeros((1, 1, 1), device=image_CHW.device)
