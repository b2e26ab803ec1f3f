"""Explaining images, and judging anybody's heat maps, from Python: no Ray, no Hydra, no files.

from pipeline.api import explain, judge

found = explain("efficientnet_lite0", image, grid=7)      # a set game, MoXI by default
found.order, found.auc, found.heat_BHW; found.show()
judge(attributions_BHW, "efficientnet_lite0", images).auc  # captum's, or anybody's, maps
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline import UsageError
from pipeline.api.explained import Curve, Explained
from pipeline.api.game import ValueFunction, value_function
from pipeline.api.inputs import Images, load, targets, tensors
from pipeline.api.presets import chosen
from pipeline.engine import Engine, Task
from pipeline.game import OBJECTIVES, Game, Objective
from pipeline.game.arena import Arena
from pipeline.judges import Judge
from pipeline.masking import Masking
from pipeline.masking.zero import Zero
from pipeline.methods import Coroutine, Method, same_for_all
from pipeline.methods.heatmaps import from_heatmap
from pipeline.models import Model
from pipeline.players import Players, View
from pipeline.players.patch_grid import PatchGrid

__all__ = ["Curve", "Explained", "ValueFunction", "explain", "judge", "value_function"]


def explain(
    model: str | nn.Module | Model,
    images: Images,
    target: int | Sequence[int] | None = None,
    method: str | Method = "moxi_insertion",
    grid: int = 7,
    *,
    players: Players | None = None,
    masking: str | Masking = "zero",
    by: str | Judge = "regions",
    transform: Callable[[Image.Image], Tensor] | None = None,
) -> Explained:
    """Explain images: which players carry the target, and how well the order does.

    `model`: a name of conf/model or of timm, any classifier module, or a Model. `images`: a PIL
    image, several, or a tensor, normalised, (C, H, W) or (B, C, H, W). `target`: a class, one an
    image, or None for the prediction. `method`, `masking`: names of conf/methods and conf/masking,
    or objects. `players`: instead of a `grid` of that many patches a side. `by`: what judges, a
    name of conf/judge or an object. `transform`: PIL image to normalised tensor, for modules that
    do not say.

    Raises UsageError for what does not fit, ValueError for an image that cannot be explained.
    """
    found = chosen("methods", method)
    return _explained(
        model, images, target, [found] * _count(images), grid, players, masking, by, transform
    )


def judge(
    attributions_BHW: Tensor | np.ndarray,
    model: str | nn.Module | Model,
    images: Images,
    target: int | Sequence[int] | None = None,
    grid: int = 7,
    *,
    players: Players | None = None,
    masking: str | Masking = "zero",
    by: str | Judge = "regions",
    transform: Callable[[Image.Image], Tensor] | None = None,
) -> Explained:
    """Judge heat maps (B, H, W), one an image at the model's input size: players are ranked by
    their mean heat, and inserted and deleted in that order, as in a run's rows.

    The other arguments are those of `explain`.
    """
    maps = list(torch.as_tensor(np.asarray(attributions_BHW)).float())
    if len(maps) != _count(images):
        raise UsageError(f"attributions_BHW: {len(maps)} maps for {_count(images)} images")
    given = [_Given(heat_HW) for heat_HW in maps]
    return _explained(model, images, target, given, grid, players, masking, by, transform)


class _Given:
    """A method whose heat map is there already."""

    def __init__(self, heat_HW: Tensor):
        self.heat_HW = heat_HW

    def explain(self, game: Game) -> Coroutine:
        yield from ()
        assert game.regions_HW is not None
        if self.heat_HW.shape != game.regions_HW.shape:
            raise UsageError(
                f"attributions_BHW: maps of {tuple(self.heat_HW.shape)} pixels, the model's input "
                f"has {tuple(game.regions_HW.shape)}; interpolate them"
            )
        return same_for_all(from_heatmap(self.heat_HW, game.regions_HW, 0), OBJECTIVES)


def _explained(
    model: Any,
    images: Images,
    target: Any,
    methods: list[Any],
    grid: int,
    players: Players | None,
    masking: Any,
    by: Any,
    transform: Any,
) -> Explained:
    loaded = load(model, images, transform)
    if loaded.output == "scalar":
        raise UsageError("model.output=scalar: its curves are rows of jobs.evaluate; none here yet")
    images_CHW = tensors(images, loaded, transform)
    asked = targets(target, len(images_CHW))
    cut, hidden = players or PatchGrid(grid=grid), chosen("masking", masking)
    judging: Judge = chosen("judge", by)
    views = [View(image_CHW, loaded.preprocessing) for image_CHW in images_CHW]
    prior: Any = getattr(cut, "prior", None)
    cutting = 0 if prior is None else prior.most_forwards(1)
    whole_HW = torch.zeros(loaded.input_hw, dtype=torch.long)
    regions = [whole_HW if prior is not None else cut(view) for view in views]
    found: dict[int, dict[str, Any]] = {}

    def task(i: int) -> Task:
        arena = Arena(loaded, views[i], regions[i], str(i))
        first = hidden if prior is None else Zero()
        prediction, n_classes = yield from arena.meet(first, asked[i])
        if (asked[i] or 0) >= n_classes:
            raise UsageError(f"target: class {asked[i]} is not one of the model's {n_classes}")
        if prior is not None:
            heat = prior.heat(images_CHW[i], arena.classes[0])
            heat_HW, _ = yield from arena.play(heat, first)
            regions[i] = cut(views[i], heat_HW)
            arena = arena.cut(regions[i])
        game = yield from arena.open(hidden)
        explanation, _ = yield from arena.play(methods[i].explain(game), hidden)
        explanation = {
            o: replace(one, evaluations=one.evaluations + cutting) for o, one in explanation.items()
        }
        curves: dict[Objective, Curve] = {}
        for objective, attribution in explanation.items():
            known = replace(attribution, method=methods[i])
            row, _ = yield from arena.play(judging.judge(known, objective, game), hidden)
            curves[objective] = Curve(**row)
        found[i] = {"prediction": prediction, "target": game.target, "curves": curves}
        found[i]["found"] = explanation

    engine = Engine(loaded)
    list(engine.run((task(i) for i in range(len(views))), in_flight=min(len(views), 64)))
    every = [found[i] for i in range(len(views))]
    return Explained(
        pixels=[view.pixels_HWC for view in views],
        regions=[regions_HW.numpy() for regions_HW in regions],
        attributions=[one["found"] for one in every],
        curves=[one["curves"] for one in every],
        prediction=[one["prediction"] for one in every],
        target=[one["target"] for one in every],
        forwards=engine.counters.forwards,
    )


def _count(images: Images) -> int:
    if isinstance(images, Tensor):
        return len(images) if images.ndim == 4 else 1
    return 1 if isinstance(images, Image.Image) else len(images)
