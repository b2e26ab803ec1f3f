"""Occlusion (Zeiler & Fergus, ECCV 2014): how far the target falls when a window is hidden.

heat of a pixel = mean, over the windows that cover it, of y_t(x) - y_t(x with the window hidden).
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.engine import Request
from pipeline.engine.device import to_device
from pipeline.game import OBJECTIVES, Game
from pipeline.masking.pixels import PixelMasking
from pipeline.masking.zero import Zero
from pipeline.methods import Coroutine, same_for_all
from pipeline.methods.heatmaps import HeatRequest, from_heatmap
from pipeline.methods.readings import ROWS, Places, Read, Readings, check_read
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class Occlusion:
    """Windows of `patch` x `patch` pixels, `stride` pixels apart, the last ones cut off at the
    border, under `fill`, a pixel masking. `forwards`: at the most; a model whose input takes more
    is refused. Patch and stride are Xplique's defaults for SMDL's tables."""

    patch: int = 10
    stride: int = 5
    fill: PixelMasking = field(default_factory=Zero)
    read: Read = "probability"
    forwards: int = 2048

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        check_read("occlusion.read", self.read)
        if min(self.patch, self.stride, self.forwards) < 1 or self.stride > self.patch:
            raise UsageError(
                f"occlusion.patch={self.patch}, occlusion.stride={self.stride}, "
                f"occlusion.forwards={self.forwards}: give positive numbers, and no stride that "
                "leaves pixels out"
            )
        if not isinstance(self.fill, PixelMasking):
            raise UsageError(
                f"occlusion.fill={self.fill!r}: give a masking of pixels, such as "
                "{_target_: pipeline.masking.zero.Zero}"
            )

    def most_forwards(self, n_players: int) -> int:
        """One a window, one for the whole image."""
        return self.forwards

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        assert game.view is not None and game.regions_HW is not None
        image_CHW = game.view.image_CHW
        heat_HW = yield from self.heat(image_CHW, game.target)
        spent = self._taken(image_CHW)
        return same_for_all(from_heatmap(heat_HW, game.regions_HW, spent), self.objectives)

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Windows of several images share batches. Raises UsageError for too large an input."""
        _, height, width = image_CHW.shape
        taken = self._taken(image_CHW)
        if taken > self.forwards:
            raise UsageError(
                f"occlusion.forwards={self.forwards}: {height}x{width} pixels take {taken}; give "
                "as many, or a larger occlusion.stride"
            )
        rows_SH, columns_TW = self.spans(height).double(), self.spans(width).double()
        outputs_N = (yield from self._outputs(image_CHW, target, taken)).double()
        drop_ST = (outputs_N[0] - outputs_N[1:]).view(len(rows_SH), len(columns_TW))
        windows_HW = rows_SH.sum(0)[:, None] * columns_TW.sum(0)
        return (rows_SH.T @ drop_ST @ columns_TW / windows_HW).float()

    def spans(self, side: int) -> Tensor:
        """What windows cover along one side, bool (S, side)."""
        starts_S = torch.arange(0, max(1, side - self.patch + self.stride), self.stride)
        offset_SX = torch.arange(side) - starts_S[:, None]
        return (offset_SX >= 0) & (offset_SX < self.patch)

    def _taken(self, image_CHW: Tensor) -> int:
        """Forwards: place 0 is the whole image, window (s, t) of S x T is place 1 + s T + t."""
        _, height, width = image_CHW.shape
        return 1 + len(self.spans(height)) * len(self.spans(width))

    def _outputs(
        self, image_CHW: Tensor, target: int, count: int
    ) -> Generator[Request, Any, Tensor]:
        """The target's at every place."""
        outputs = []
        for first in range(0, count, ROWS):
            places = np.arange(first, min(count, first + ROWS))
            outputs.append((yield Request(Hidden(self), Places(image_CHW, target, places))))
        return torch.cat(outputs)


@dataclass(frozen=True)
class Hidden(Readings):
    """The target's output where windows are hidden."""

    method: Occlusion

    @property
    def read(self) -> Read:
        """The method's."""
        return self.method.read

    def shown(self, model: Model, piece: Places) -> Tensor:
        """Images (B, C, H, W)."""
        _, height, width = piece.image_CHW.shape
        rows_SH, columns_TW = self.method.spans(height), self.method.spans(width)
        window_B = torch.from_numpy(piece.places) - 1
        rows_BH = rows_SH[window_B // len(columns_TW)] & (window_B >= 0)[:, None]
        columns_BW = columns_TW[window_B % len(columns_TW)]
        rows_BH, columns_BW, fill_CHW, image_CHW = (
            to_device(tensor, model.device)
            for tensor in (
                *(rows_BH, columns_BW),
                *(self.method.fill.fill(model, piece.image_CHW), piece.image_CHW),
            )
        )
        hidden_B1HW = (rows_BH[:, :, None] & columns_BW[:, None])[:, None]
        return torch.where(hidden_B1HW, fill_CHW, image_CHW)
