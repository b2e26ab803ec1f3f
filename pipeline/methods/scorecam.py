"""Score-CAM (Wang et al., CVPR workshop 2020): how well each channel alone shows the target.

heat = relu(sum_k w_k A_k), w = softmax over channels of y_t(x * m_k): m_k is channel k of the last
feature map, scaled to 0..1 and enlarged. Subtracting y_t of a baseline changes no w. No gradients.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline import UsageError
from pipeline.engine import Listed, PerRow, Request, Spent
from pipeline.engine.device import to_device, to_host
from pipeline.game import OBJECTIVES, Game
from pipeline.masking.pixels import image_tokens
from pipeline.methods import Coroutine, same_for_all
from pipeline.methods.gradcam import enlarged, feature_maps
from pipeline.methods.heatmaps import HeatRequest, from_heatmap
from pipeline.methods.readings import ROWS, Read, Readings, check_read
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class ScoreCam:
    """The layer is the model's `feature_layer`. `forwards` channels at the most, those of the
    largest variance; constant ones show nothing and are left out. `read`: y_t, `logit` as the
    authors print it, or `probability`."""

    forwards: int = 2048
    read: Read = "logit"

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        check_read("scorecam.read", self.read)
        if self.forwards < 1:
            raise UsageError(f"scorecam.forwards={self.forwards}: give a positive number")

    def most_forwards(self, n_players: int) -> int:
        """One a channel, and one for their maps."""
        return self.forwards + 1

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        assert game.view is not None and game.regions_HW is not None
        heat_HW, spent = yield from self._explained(game.view.image_CHW, game.target)
        return same_for_all(from_heatmap(heat_HW, game.regions_HW, spent), self.objectives)

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Channels of several images share batches."""
        return (yield from self._explained(image_CHW, target))[0]

    def _explained(
        self, image_CHW: Tensor, target: int
    ) -> Generator[Request, Any, tuple[Tensor, int]]:
        """The map (H, W), and forwards spent."""
        (maps_Dhw,) = yield Request(FeatureMaps(), Listed([image_CHW]))
        maps_Khw = maps_Dhw[_most_varied(maps_Dhw, self.forwards)]
        if not len(maps_Khw):
            raise ValueError("every channel of the feature map is constant: it ranks nothing")
        shown, scores = unit_range(maps_Khw), []
        for first in range(0, len(shown), ROWS):
            rows = Channels(image_CHW, target, shown[first : first + ROWS])
            scores.append((yield Request(Masked(self.read), rows)))
        w_K = torch.cat(scores).softmax(0)
        map_hw = torch.einsum("k,khw->hw", w_K, maps_Khw).relu()
        height, width = image_CHW.shape[1:]
        heat_11HW = interpolate(map_hw[None, None], (height, width), mode="bilinear")
        return heat_11HW[0, 0], 1 + len(shown)


class Channels(NamedTuple):
    """Rows of one image: maps of 0..1 (K, h, w), each a mask."""

    image_CHW: Tensor
    target: int
    maps_Khw: Tensor

    def __len__(self) -> int:
        return len(self.maps_Khw)

    def take(self, places: np.ndarray) -> "Channels":
        """Some of the rows."""
        return Channels(self.image_CHW, self.target, self.maps_Khw[torch.from_numpy(places)])


@dataclass(frozen=True)
class Masked(Readings):
    """The target's output where the image is multiplied by each map, enlarged."""

    read: Read

    def shown(self, model: Model, piece: Channels) -> Tensor:
        """Images (B, C, H, W)."""
        masks_BHW = enlarged(model, to_device(piece.maps_Khw, model.device))
        image_CHW = to_device(piece.image_CHW, model.device)
        return image_CHW.to(model.dtype) * masks_BHW[:, None].to(model.dtype)


@dataclass(frozen=True)
class FeatureMaps(PerRow):
    """Feature maps (D, h, w) of rows of images (C, H, W)."""

    def lengths(self, model: Model, rows: Listed) -> int:
        """Those of the whole image."""
        return image_tokens(model)

    def launch(self, model: Model, pieces: list[Listed], spent: Spent) -> Tensor:
        """One forward each."""
        images = [to_device(image_CHW, model.device) for piece in pieces for image_CHW in piece]
        maps_BDhw = feature_maps(model, torch.stack(images).to(model.dtype))
        spent(len(images))
        return to_host(maps_BDhw.float())


def unit_range(maps_Khw: Tensor) -> Tensor:
    """Each map scaled to 0..1; none is constant."""
    low_K11, high_K11 = maps_Khw.amin((1, 2), True), maps_Khw.amax((1, 2), True)
    return (maps_Khw - low_K11) / (high_K11 - low_K11)


def _most_varied(maps_Dhw: Tensor, most: int) -> Tensor:
    """Channels that are not constant, in their order: at most so many, of the largest variance."""
    maps_DP = maps_Dhw.flatten(1)
    varied_D = maps_DP.amax(1) > maps_DP.amin(1)
    variance_D = torch.where(varied_D, maps_DP.double().var(1, correction=0), -1.0)
    order_D = variance_D.argsort(descending=True, stable=True)
    return order_D[: min(most, int(varied_D.sum()))].sort().values
