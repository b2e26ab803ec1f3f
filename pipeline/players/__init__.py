"""Players: how an image is cut into regions.

A players object is called with one normalised image (C, H, W) and returns `regions_HW`, an int64
tensor that gives each pixel its player, 0 to n - 1, every player with at least one pixel.
"""

from typing import Protocol

from torch import Tensor


class Players(Protocol):
    """See the module's docstring."""

    def __call__(self, image_CHW: Tensor) -> Tensor:
        """Cut one image."""
        ...


def fractions(regions_HW: Tensor) -> Tensor:
    """Share of the image's pixels that each player holds, float64 (N,)."""
    return regions_HW.flatten().bincount().double() / regions_HW.numel()
