"""RISE (Petsiuk et al., BMVC 2018): how likely the target is where random masks keep a pixel.

heat = sum_m p_t(x * m) m / (forwards * p): masks are grids of cells, each kept with probability p,
made larger than the image by bilinear interpolation and shifted at random. What is masked goes
towards 0 after normalisation.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline import UsageError
from pipeline.engine import Request, Spent
from pipeline.engine.device import to_device, to_host
from pipeline.game import OBJECTIVES, Game
from pipeline.masking.pixels import image_tokens
from pipeline.methods import Coroutine
from pipeline.methods.heatmaps import HeatRequest, by_heat
from pipeline.methods.readings import ROWS, Places
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class Rise:
    """`forwards` an image, each of a mask of `grid` x `grid` cells, each kept with probability
    `keep`; the same masks for every image."""

    forwards: int = 4000
    grid: int = 7
    keep: float = 0.5
    seed: int = 0

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        if self.forwards < 1 or self.grid < 1 or not 0 < self.keep < 1:
            raise UsageError(
                f"rise.forwards={self.forwards}, rise.grid={self.grid}, rise.keep={self.keep}: "
                "give positive numbers, keep between 0 and 1"
            )

    def most_forwards(self, n_players: int) -> int:
        """One a mask."""
        return self.forwards

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        return (yield from by_heat(self, game))

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Masks of several images share batches."""
        heat_HW = torch.zeros(image_CHW.shape[1:])
        for first in range(0, self.forwards, ROWS):
            places = np.arange(first, min(self.forwards, first + ROWS))
            heat_HW = heat_HW + (yield Request(SoftMasks(self), Places(image_CHW, target, places)))
        return heat_HW / (self.forwards * self.keep)


@dataclass(frozen=True)
class SoftMasks:
    """For each piece the sum of its masks (H, W), each times the target's probability under it."""

    rise: Rise

    def lengths(self, model: Model, rows: Places) -> int:
        """Every row is a whole image."""
        return image_tokens(model)

    def launch(self, model: Model, pieces: list[Places], spent: Spent) -> list[Tensor]:
        """One forward a mask."""
        masks = [self._masks(model, piece.places) for piece in pieces]
        with torch.inference_mode():
            x_BCHW = torch.cat(
                [
                    to_device(piece.image_CHW, model.device).to(model.dtype) * mask_BHW[:, None]
                    for piece, mask_BHW in zip(pieces, masks, strict=True)
                ]
            )
            p_BK = model.probabilities(model.logits(x_BCHW).float())
            sums, start = [], 0
            for piece, mask_BHW in zip(pieces, masks, strict=True):
                p_B = p_BK[start : start + len(piece), piece.target]
                sums.append(to_host(torch.einsum("b,bhw->hw", p_B, mask_BHW.float())))
                start += len(piece)
        spent(start)
        return sums

    def answer(self, landed: list[Tensor], pieces: list[Places]) -> list[Tensor]:
        """A sum a piece."""
        return landed

    def join(self, answers: list[Tensor], order: np.ndarray) -> Tensor:
        """Sums add up, in whatever order."""
        return torch.stack(answers).sum(0)

    def _masks(self, model: Model, places: np.ndarray) -> Tensor:
        """Masks (B, H, W) of these places, on the device."""
        kept_MGG, shift_M2 = _drawn(self.rise)
        height, width = model.input_hw
        cell = (-(-height // self.rise.grid), -(-width // self.rise.grid))
        size = [(self.rise.grid + 1) * side for side in cell]
        grids = to_device(kept_MGG[places][:, None], model.device).to(model.dtype)
        large_BHW = interpolate(grids, size=size, mode="bilinear", align_corners=False)[:, 0]
        tops, lefts = (shift_M2[places] * cell).astype(int).T.tolist()
        corners = zip(large_BHW, tops, lefts, strict=True)
        return torch.stack([m[t : t + height, left : left + width] for m, t, left in corners])


@lru_cache(maxsize=2)
def _drawn(rise: Rise) -> tuple[Tensor, Any]:
    """Cells of every mask, and how far it is shifted, in cells."""
    rng = np.random.default_rng(rise.seed)
    kept_MGG = rng.random((rise.forwards, rise.grid, rise.grid)) < rise.keep
    return torch.from_numpy(kept_MGG).float(), rng.random((rise.forwards, 2))
