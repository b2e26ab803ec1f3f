"""A square grid of equal patches, numbered row by row: p = row * grid + column."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.players import View


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """`grid` x `grid` patches; both sides of the input must be multiples of `grid`."""

    alike: ClassVar[bool] = True
    grid: int = 14

    def __str__(self) -> str:
        return f"grid{self.grid}"

    def __post_init__(self):
        if self.grid < 1:
            raise UsageError(f"players.grid={self.grid}: give a positive number")

    def __call__(self, view: View, heat_HW: Tensor | None = None) -> Tensor:
        """Regions (H, W); raises UsageError where the grid does not divide the input."""
        return self.cut(*view.image_CHW.shape[-2:])

    def cut(self, height: int, width: int) -> Tensor:
        """Regions (H, W) of any image of that size."""
        if height % self.grid or width % self.grid:
            fits = [g for g in range(2, min(height, width) + 1) if not (height % g or width % g)]
            near = sorted(sorted(fits, key=lambda g: abs(g - self.grid))[:4])
            raise UsageError(
                f"players.grid={self.grid} does not divide the model's {height}x{width} input; "
                f"use one of {near}"
            )
        row = torch.arange(height) // (height // self.grid)
        column = torch.arange(width) // (width // self.grid)
        return row[:, None] * self.grid + column[None, :]
