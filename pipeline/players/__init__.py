"""Players: how an image is cut into regions.

A players object is called with a `View` of one image and, where it names a `prior`, that method's
heat; it returns `regions_HW`, an int64 tensor that gives each pixel its player, 0 to n - 1, every
player with at least one pixel. n may differ from image to image. `members`, where it has them, are
extensions of members of the tar that `View.sample` is to hold beside the image. `kept`, where it is
true, and a `prior` make rows keep the regions, since cutting again takes a model. `alike`, where it
is true, says that images are cut alike whatever they show, so that orders fit other input sizes.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.data import Sample


class View:
    """One image as the model sees it: normalised `image_CHW`, and `pixels_HWC`, uint8 RGB.

    `preprocessing`: how it was made; `sample`: of what, None for an image that comes from nowhere.
    `blank`: there is no image, settings are tried.
    """

    def __init__(
        self,
        image_CHW: Tensor,
        preprocessing: Mapping[str, Any],
        sample: Sample | None = None,
        blank: bool = False,
    ):
        self.image_CHW = image_CHW
        self.preprocessing = preprocessing
        self.sample = sample
        self.blank = blank

    @cached_property
    def pixels_HWC(self) -> np.ndarray:
        """Normalisation undone."""
        mean, std = (np.asarray(self.preprocessing[k], np.float32) for k in ("mean", "std"))
        pixels_HWC = self.image_CHW.float().permute(1, 2, 0).numpy() * std + mean
        return (pixels_HWC * 255).round().clip(0, 255).astype(np.uint8)


class Players(Protocol):
    """See the module's docstring."""

    def __call__(self, view: View, heat_HW: Tensor | None = None) -> Tensor:
        """Cut one image."""
        ...


def numbered(labels_HW: Tensor) -> Tensor:
    """Any labels (H, W) as players 0 to n - 1, in the same order, each with a pixel."""
    return labels_HW.unique(return_inverse=True)[1]


def fractions(regions_HW: Tensor) -> Tensor:
    """Share of the image's pixels that each player holds, float64 (N,)."""
    return regions_HW.flatten().bincount().double() / regions_HW.numel()


def blank(preprocessing: Mapping[str, Any]) -> View:
    """A grey image of the model's size, to try settings on."""
    return View(torch.zeros(preprocessing["input_size"]), preprocessing, blank=True)


def cells(grid: int, height: int, width: int) -> Tensor:
    """Regions (H, W) of a grid that need not divide the image: some cells have a pixel more."""
    row_H, column_W = torch.arange(height) * grid // height, torch.arange(width) * grid // width
    return numbered(row_H[:, None] * grid + column_W)


def stand_in(view: View) -> Tensor:
    """Regions (H, W) of a blank view for players that need a real image: 7 x 7, or a few less."""
    return cells(7, *view.image_CHW.shape[-2:])
