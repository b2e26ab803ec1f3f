"""SEEDS superpixels (Van den Bergh et al., IJCV 2015): blocks that trade pixels, by OpenCV."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.identity import with_changes
from pipeline.players import View, numbered
from pipeline.players.connected import connected
from pipeline.players.opencv import opencv


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """About `num_superpixels` of the image as the model sees it.

    `num_levels` of blocks, each of 2 x 2 of the level below, trade them; `smoothing` of shapes, 0
    to 5, is OpenCV's `prior`; colours are counted in `histogram_bins` a channel. The defaults are
    those of SMDL-Attribution (ICLR 2024): 49 at 224 x 224. `connected`: none is in pieces.
    """

    num_superpixels: int = 50
    num_levels: int = 3
    smoothing: int = 2
    histogram_bins: int = 5
    iterations: int = 10
    connected: bool = False

    def __str__(self) -> str:
        return with_changes(self, f"seeds{self.num_superpixels}", said=("num_superpixels",))

    def __post_init__(self):
        for name in ("num_superpixels", "num_levels", "histogram_bins", "iterations"):
            if getattr(self, name) < 1:
                raise UsageError(f"players.{name}={getattr(self, name)}: give a positive number")
        if self.smoothing not in range(6):
            raise UsageError(f"players.smoothing={self.smoothing}: use 0, 1, 2, 3, 4 or 5")

    def __call__(self, view: View, heat_HW: Tensor | None = None) -> Tensor:
        """Regions (H, W). Raises UsageError where superpixels would have fewer than 4 pixels."""
        height, width, channels = view.pixels_HWC.shape
        if 4 * self.num_superpixels > height * width:
            raise UsageError(
                f"players.num_superpixels={self.num_superpixels} are too many for the model's "
                f"{height}x{width} input; give at most {height * width // 4}"
            )
        found = opencv().ximgproc.createSuperpixelSEEDS(
            *(width, height, channels, self.num_superpixels, self.num_levels),
            prior=self.smoothing,
            histogram_bins=self.histogram_bins,
        )
        bgr_HWC = np.ascontiguousarray(view.pixels_HWC[..., ::-1])  # as OpenCV reads files
        found.iterate(bgr_HWC, self.iterations)
        regions_HW = numbered(torch.from_numpy(found.getLabels()))
        return connected(regions_HW) if self.connected else regions_HW
