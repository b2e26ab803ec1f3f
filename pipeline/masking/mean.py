"""The image's own mean colour, channel by channel."""

from dataclasses import dataclass

from torch import Tensor

from pipeline.masking.pixels import PixelMasking
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class Mean(PixelMasking):
    """No settings."""

    def fill(self, model: Model, image_CHW: Tensor) -> Tensor:
        """Mean over the pixels (C, 1, 1)."""
        return image_CHW.mean((1, 2), keepdim=True)
