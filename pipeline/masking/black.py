"""Black before normalisation: hidden pixels are 0 in raw pixels (SMDL's setting)."""

from dataclasses import dataclass

from torch import Tensor

from pipeline.masking.pixels import PixelMasking
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class Black(PixelMasking):
    """No settings."""

    def fill(self, model: Model, image_CHW: Tensor) -> Tensor:
        """Normalised black (C, 1, 1)."""
        return model.normalise(0.0)
