"""Integrated gradients (Sundararajan et al., ICML 2017): gradients on the way from a baseline.

(x - x0) * mean over a of d y_t / d x at x0 + a (x - x0), a at the midpoints of `forwards` steps.
Pixels add their channels up, so that all of them together are y_t(x) - y_t(x0), but for the steps.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.engine.device import to_device
from pipeline.game import OBJECTIVES, Game
from pipeline.masking.pixels import PixelMasking
from pipeline.masking.zero import Zero
from pipeline.methods import Coroutine
from pipeline.methods.gradients import mean_over_points, on_device
from pipeline.methods.heatmaps import HeatRequest, by_heat
from pipeline.methods.readings import Places, Read, check_read
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients:
    """`forwards` steps, each with a backward. `baseline`: a pixel masking, which hides the whole
    image. `read`: `logit` or `probability`."""

    forwards: int = 80
    baseline: PixelMasking = field(default_factory=Zero)
    read: Read = "logit"

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        check_read("integrated_gradients.read", self.read)
        if self.forwards < 1:
            raise UsageError(
                f"integrated_gradients.forwards={self.forwards}: give a positive number"
            )
        if not isinstance(self.baseline, PixelMasking):
            raise UsageError(
                f"integrated_gradients.baseline={self.baseline!r}: give a masking of pixels, such "
                "as {_target_: pipeline.masking.black.Black}"
            )

    def most_forwards(self, n_players: int) -> int:
        """One a step."""
        return self.forwards

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        return (yield from by_heat(self, game))

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Steps of several images share batches."""
        return (yield from mean_over_points(self, image_CHW, target))

    def points(self, model: Model, rows: Places) -> Tensor:
        """Midpoints of steps (B, C, H, W)."""
        share_B = (torch.from_numpy(rows.places).float() + 0.5) / self.forwards
        difference_CHW = self._difference(model, rows)
        share_B111 = to_device(share_B, model.device).view(-1, 1, 1, 1)
        return on_device(model, rows) - (1 - share_B111) * difference_CHW

    def summed(self, model: Model, rows: Places, gradients_BCHW: Tensor) -> Tensor:
        """Attributions of pixels (H, W)."""
        return (self._difference(model, rows) * gradients_BCHW.sum(0)).sum(0)

    def _difference(self, model: Model, rows: Places) -> Tensor:
        """Image less baseline (C, H, W)."""
        fill_CHW = self.baseline.fill(model, rows.image_CHW)
        return on_device(model, rows) - to_device(fill_CHW, model.device)
