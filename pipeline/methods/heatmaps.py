"""Methods that say how important each pixel is: batched by the engine, ranked by region means."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pipeline.engine import Listed, PerRow, Request, Spent
from pipeline.engine.device import to_device, to_host
from pipeline.game import Game
from pipeline.maps import coarse
from pipeline.masking.pixels import gradient_tokens
from pipeline.methods import Attribution, Coroutine, Method, rank, same_for_all
from pipeline.models import Model

HeatRequest = Generator[Request, Any, Tensor]
"""Coroutine: asks programs, returns importance per pixel (H, W)."""


class HeatMethod(Method, Protocol):
    """A method whose `explain` is `by_heat`; it may cut players as well (`players.prior`)."""

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Importance for a class of each pixel of a normalised image, at the input's resolution."""
        ...


class GradientMethod(HeatMethod, Protocol):
    """One whose `heat` is `gradient_heat`: maps of several images, whose graphs fit in memory."""

    def heatmaps(self, model: Model, images_BCHW: Tensor, targets: list[int]) -> Tensor:
        """Importance per pixel (B, H, W), finite, not constant, at the input's resolution."""
        ...


class Wanted(NamedTuple):
    """A heatmap for a class of a normalised image (C, H, W)."""

    image_CHW: Tensor
    target: int


@dataclass(frozen=True)
class Heatmaps(PerRow):
    """Heatmaps (H, W) of rows of `Wanted`."""

    method: GradientMethod

    def lengths(self, model: Model, rows: Listed) -> int:
        """Those of the whole image, with gradients."""
        return gradient_tokens(model)

    def launch(self, model: Model, pieces: list[Listed], spent: Spent) -> Tensor:
        """As the method does."""
        rows = [row for piece in pieces for row in piece]
        images = [to_device(row.image_CHW, model.device) for row in rows]
        images_BCHW = torch.stack(images).to(model.dtype)
        maps_BHW = self.method.heatmaps(model, images_BCHW, [row.target for row in rows])
        spent(len(rows) * self.method.most_forwards(1))
        return to_host(maps_BHW)


def gradient_heat(method: GradientMethod, image_CHW: Tensor, target: int) -> HeatRequest:
    """Coroutine: a map that shares its batch with those of other images."""
    (heat_HW,) = yield Request(Heatmaps(method), Listed([Wanted(image_CHW, target)]))
    return heat_HW


def by_heat(method: HeatMethod, game: Game) -> Coroutine:
    """Coroutine: order of the players by their mean heat, for every objective."""
    assert game.view is not None and game.regions_HW is not None
    heat_HW = yield from method.heat(game.view.image_CHW, game.target)
    found = from_heatmap(heat_HW, game.regions_HW, method.most_forwards(game.n_players))
    return same_for_all(found, method.objectives)


def from_heatmap(heat_HW: Tensor, regions_HW: Tensor, evaluations: int) -> Attribution:
    """Order of the players by their mean heat. Raises ValueError for a map that ranks nothing."""
    if not heat_HW.isfinite().all():
        raise ValueError("the heatmap holds NaN or infinite values")
    if float(heat_HW.max()) == float(heat_HW.min()):
        raise ValueError(f"the heatmap is constant ({float(heat_HW.max()):g}): it ranks nothing")
    regions_P = regions_HW.flatten()
    scores_N = regions_P.bincount(heat_HW.flatten().double()) / regions_P.bincount()
    return Attribution(
        order=rank(scores_N), scores_N=scores_N, heat_hw=coarse(heat_HW), evaluations=evaluations
    )
