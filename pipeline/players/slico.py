"""SLICO superpixels: SLIC (Achanta et al., TPAMI 2012) with an adaptive compactness, by OpenCV."""

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
class Slico:
    """Superpixels about `region_size` pixels wide of the image as the model sees it.

    `ruler`: their first compactness. The defaults are those of SMDL-Attribution (ICLR 2024): 49 at
    224 x 224, half of them in pieces, unless `connected`.
    """

    region_size: int = 30
    ruler: float = 20
    iterations: int = 20
    connected: bool = False

    def __str__(self) -> str:
        return with_changes(self, f"slico{self.region_size}", said=("region_size",))

    def __post_init__(self):
        for name in ("region_size", "ruler", "iterations"):
            if not getattr(self, name) > 0:
                raise UsageError(f"players.{name}={getattr(self, name)}: give a positive number")

    def __call__(self, view: View, heat_HW: Tensor | None = None) -> Tensor:
        """Regions (H, W). Raises UsageError where a superpixel would be larger than the input."""
        height, width = view.image_CHW.shape[-2:]
        if self.region_size > min(height, width):
            raise UsageError(
                f"players.region_size={self.region_size} is more than the model's {height}x{width} "
                "input; give less"
            )
        processing = opencv().ximgproc
        bgr_HWC = np.ascontiguousarray(view.pixels_HWC[..., ::-1])  # as OpenCV reads files
        found = processing.createSuperpixelSLIC(
            bgr_HWC, processing.SLICO, self.region_size, float(self.ruler)
        )
        found.iterate(self.iterations)
        regions_HW = numbered(torch.from_numpy(found.getLabels()))
        return connected(regions_HW) if self.connected else regions_HW
