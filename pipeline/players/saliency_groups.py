"""Cells of a grid grouped by the heat of a method, hot with hot: SMDL-Attribution's patches with a
prior (ICLR 2024, arXiv:2402.09164). A group may lie anywhere in the image, in any number of pieces.

The prior decides what belongs together, not what is important.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline import UsageError
from pipeline.identity import with_changes
from pipeline.players import View


@dataclass(frozen=True, kw_only=True)
class SaliencyGroups:
    """`cells` x `cells` of them, in cells^2 // `size` groups, numbered from the hottest.

    `prior`: a method with `heat`. A cell's heat is the map's, bilinear without antialiasing; of
    equal ones the first, row by row, is the hotter. Cells left over join the last group.
    """

    prior: Any
    cells: int = 10
    size: int = 4

    def __str__(self) -> str:
        return with_changes(self, f"groups{self.cells}x{self.size}", said=("cells", "size"))

    def __post_init__(self):
        if not hasattr(self.prior, "heat"):
            raise UsageError("players.prior: give a method with heat maps, such as gradcam's")
        if not 0 < self.size <= self.cells**2:
            raise UsageError(
                f"players.size={self.size}: give a number from 1 to {self.cells**2}, the cells of "
                f"players.cells={self.cells}"
            )

    def __call__(self, view: View, heat_HW: Tensor | None = None) -> Tensor:
        """Regions (H, W). Raises ValueError for heat that ranks nothing, UsageError where cells
        would be less than a pixel."""
        height, width = view.image_CHW.shape[-2:]
        if self.cells > min(height, width):
            raise UsageError(
                f"players.cells={self.cells} are more than the model's {height}x{width} input has "
                "pixels; give less"
            )
        assert heat_HW is not None
        if not heat_HW.isfinite().all() or float(heat_HW.max()) == float(heat_HW.min()):
            raise ValueError("players.prior: the heat map is constant or not finite: no groups")
        heat_11NN = interpolate(
            heat_HW[None, None].float(), (self.cells, self.cells), mode="bilinear"
        )
        ranked = heat_11NN.flatten().argsort(descending=True, stable=True)
        groups = torch.arange(self.cells**2) // self.size
        group_P = torch.empty_like(ranked)
        group_P[ranked] = groups.clamp(max=self.cells**2 // self.size - 1)
        row_H = torch.arange(height) * self.cells // height
        column_W = torch.arange(width) * self.cells // width
        return group_P.view(self.cells, self.cells)[row_H[:, None], column_W]
