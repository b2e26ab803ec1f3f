"""The set game of one image as a function of coalitions, for whoever computes on games."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline import UsageError
from pipeline.api.inputs import load, tensors
from pipeline.api.presets import chosen
from pipeline.engine import Engine
from pipeline.game import Coalitions, Game, Read
from pipeline.game.arena import Arena, Turn
from pipeline.masking import Masking
from pipeline.masking.zero import Zero
from pipeline.methods.sampling import check_read
from pipeline.models import Model
from pipeline.players import Players, View
from pipeline.players.patch_grid import PatchGrid


@dataclass(frozen=True, eq=False)
class ValueFunction:
    """v of one image: called with coalitions (C, N), True = visible, values (C,) in float64, in
    device batches. `regions_HW`: the player of each pixel; `target`: the class explained."""

    n_players: int
    target: int
    regions_HW: np.ndarray
    _engine: Engine
    _arena: Arena
    _masking: Masking
    _read: Read

    def __call__(self, coalitions_CN: np.ndarray | Tensor) -> np.ndarray:
        """Raises ValueError for coalitions of another number of players."""
        asked_CN = torch.as_tensor(np.array(coalitions_CN, dtype=bool))
        if asked_CN.ndim != 2 or asked_CN.shape[1] != self.n_players:
            raise ValueError(
                f"coalitions_CN: shape {tuple(asked_CN.shape)}, the game has {self.n_players} "
                "players"
            )
        if not len(asked_CN):
            return np.zeros(0)
        return _run(self._engine, self._asked(asked_CN)).numpy()

    def _asked(self, asked_CN: Tensor) -> Turn[Tensor]:
        def play() -> Any:
            return (yield Coalitions(asked_CN))

        outputs, _ = yield from self._arena.play(play(), self._masking)
        return outputs.reading(self._read)


def value_function(
    model: str | nn.Module | Model,
    image: Image.Image | Tensor,
    target: int | None = None,
    grid: int = 7,
    *,
    players: Players | None = None,
    masking: str | Masking = "zero",
    read: Read = "log_odds",
    transform: Callable[[Image.Image], Tensor] | None = None,
) -> ValueFunction:
    """The game that `explain` plays, for other packages: `docs/shapiq.md`.

    `read`: the value of a coalition, `log_odds`, `probability` or `logit` of the target; the other
    arguments are those of `explain`, of one image. Raises UsageError for what does not fit.
    """
    check_read("value_function", read)
    loaded = load(model, image, transform)
    images_CHW = tensors(image, loaded, transform)
    if len(images_CHW) != 1:
        raise UsageError(f"image: {len(images_CHW)} images; a game is about one")
    view = View(images_CHW[0], loaded.preprocessing)
    cut, hidden = players or PatchGrid(grid=grid), chosen("masking", masking)
    engine = Engine(loaded)
    arena, game = _run(engine, _opened(loaded, view, cut, hidden, target))
    regions_HW = arena.regions_HW.numpy()
    return ValueFunction(game.n_players, game.target, regions_HW, engine, arena, hidden, read)


def _opened(
    model: Model, view: View, cut: Any, masking: Masking, target: int | None
) -> Turn[tuple[Arena, Game]]:
    """Players with a prior are cut by its heat first."""
    prior = getattr(cut, "prior", None)
    whole_HW = torch.zeros(model.input_hw, dtype=torch.long)
    arena = Arena(model, view, cut(view) if prior is None else whole_HW, "0")
    first = masking if prior is None else Zero()
    _, n_classes = yield from arena.meet(first, target)
    if target is not None and not 0 <= target < n_classes:
        raise UsageError(f"target: class {target} is not one of the model's {n_classes}")
    if prior is not None:
        heat_HW, _ = yield from arena.play(prior.heat(view.image_CHW, arena.classes[0]), first)
        arena = arena.cut(cut(view, heat_HW))
    return arena, (yield from arena.open(masking))


def _run(engine: Engine, task: Turn[Any]) -> Any:
    (found,) = engine.run([task], in_flight=1)
    return found
