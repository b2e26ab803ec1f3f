"""Gaussian blur: hidden pixels keep their surroundings' colour and lose their detail."""

from dataclasses import dataclass

from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from pipeline import UsageError
from pipeline.masking.pixels import PixelMasking
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class Blur(PixelMasking):
    """`sigma` and `kernel` (odd) in pixels of the model's input; reflected at the border."""

    sigma: float = 5.0
    kernel: int = 11

    def __post_init__(self):
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UsageError(f"masking.kernel={self.kernel}: give an odd positive number")
        if self.sigma <= 0:
            raise UsageError(f"masking.sigma={self.sigma}: give a positive number of pixels")

    def fill(self, model: Model, image_CHW: Tensor) -> Tensor:
        """The whole image blurred (C, H, W)."""
        return gaussian_blur(image_CHW, [self.kernel, self.kernel], [self.sigma, self.sigma])
