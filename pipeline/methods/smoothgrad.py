"""SmoothGrad (Smilkov et al., 2017, arXiv:1706.03825): gradients at noisy copies of the image.

g_i = d y_t / d x at x + N(0, s^2), s = `noise` (max x - min x). The heat of a pixel is the largest
over channels of |mean g|, of the mean of g^2 (SquareGrad; Hooker et al., NeurIPS 2019) or of the
variance of g (VarGrad; Adebayo et al., ICLR workshop 2018).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.engine.device import to_device
from pipeline.game import OBJECTIVES, Game
from pipeline.methods import Coroutine
from pipeline.methods.gradients import mean_over_points, on_device
from pipeline.methods.heatmaps import HeatRequest, by_heat
from pipeline.methods.readings import Places, Read, check_read
from pipeline.models import Model

POWERS = {"mean": (1,), "square": (2,), "variance": (1, 2)}


@dataclass(frozen=True, kw_only=True)
class SmoothGrad:
    """`forwards` noisy copies, each with a backward; `reduce`: `mean`, `square` or `variance`;
    `read`: `logit` or `probability`. The noise belongs to `seed` and the image's pixels."""

    forwards: int = 80
    noise: float = 0.15
    reduce: Literal["mean", "square", "variance"] = "mean"
    read: Read = "logit"
    seed: int = 0

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        check_read("smoothgrad.read", self.read)
        if self.forwards < 1 or not self.noise > 0:
            raise UsageError(
                f"smoothgrad.forwards={self.forwards}, smoothgrad.noise={self.noise}: "
                "give positive numbers"
            )
        if self.reduce not in POWERS:
            raise UsageError(f"smoothgrad.reduce={self.reduce!r}: use one of {', '.join(POWERS)}")
        if self.reduce == "variance" and self.forwards < 2:
            raise UsageError("smoothgrad.forwards=1: a variance needs two at least")

    def most_forwards(self, n_players: int) -> int:
        """One a copy."""
        return self.forwards

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        return (yield from by_heat(self, game))

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Copies of several images share batches."""
        first_CHW, *second = yield from mean_over_points(self, image_CHW, target)
        if self.reduce == "mean":
            first_CHW = first_CHW.abs()
        elif self.reduce == "variance":
            first_CHW = second[0] - first_CHW.square()
        return first_CHW.amax(0)

    def points(self, model: Model, rows: Places) -> Tensor:
        """Noisy copies (B, C, H, W)."""
        image_CHW = rows.image_CHW.float()
        spread = self.noise * (image_CHW.max() - image_CHW.min())
        noise_BCHW = spread * torch.stack([self._noise(rows, place) for place in rows.places])
        return on_device(model, rows) + to_device(noise_BCHW, model.device)

    def summed(self, model: Model, rows: Places, gradients_BCHW: Tensor) -> Tensor:
        """Sums of the powers that are needed (1 or 2, C, H, W)."""
        return torch.stack([(gradients_BCHW**power).sum(0) for power in POWERS[self.reduce]])

    def _noise(self, rows: Places, place: int) -> Tensor:
        """One copy's, drawn on the host and alone: the same on any device, in any batch."""
        own = crc32(rows.image_CHW.numpy().tobytes())
        seed = np.random.SeedSequence([self.seed, own, int(place)]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(seed[0] >> 1))
        return torch.randn(rows.image_CHW.shape, generator=generator)
