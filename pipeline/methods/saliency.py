"""Saliency (Simonyan et al., 2014): the gradient of the target's output at each pixel.

max over channels of |d y_t / d x|, y the logit or the probability.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.game import OBJECTIVES, Game
from pipeline.methods import Coroutine
from pipeline.methods.heatmaps import HeatRequest, by_heat, gradient_heat
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """`read`: `logit` or `probability`."""

    read: Literal["logit", "probability"] = "logit"

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        if self.read not in ("logit", "probability"):
            raise UsageError(f"saliency.read={self.read!r}: use 'logit' or 'probability'")

    def most_forwards(self, n_players: int) -> int:
        """One, with a backward."""
        return 1

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        return (yield from by_heat(self, game))

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Batched with other images."""
        return (yield from gradient_heat(self, image_CHW, target))

    def heatmaps(self, model: Model, images_BCHW: Tensor, targets: list[int]) -> Tensor:
        """Maps (B, H, W)."""
        with torch.enable_grad():
            x_BCHW = images_BCHW.detach().requires_grad_(True)
            y_BK = model.module(x_BCHW).float()
            y_BK = y_BK if self.read == "logit" else y_BK.softmax(1)
            # weights are frozen; autograd.grad and the engine's count of FLOPs exclude each other
            y_BK[range(len(targets)), targets].sum().backward()
        assert x_BCHW.grad is not None
        return x_BCHW.grad.float().abs().amax(1)
