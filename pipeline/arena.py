"""Where one image's games are played: coroutines of coalitions become queries to the engine."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from pipeline.engine import ProgramQuery, Query
from pipeline.masking import Masking
from pipeline.masking.pixels import gradient_tokens
from pipeline.methods import (
    Attribution,
    Game,
    HeatmapMethod,
    Objective,
    Outputs,
    SetGameMethod,
    from_heatmap,
)
from pipeline.models import Model
from pipeline.players import fractions

Play = Generator[Tensor, Any, Any]


@dataclass(frozen=True)
class Heatmaps:
    """A heatmap method as a program of the engine; rows are (image (C, H, W), target)."""

    method: HeatmapMethod

    def tokens(self, model: Model) -> int:
        """Those of the whole image, with gradients."""
        return gradient_tokens(model)

    def run(
        self, model: Model, rows: list[tuple[Tensor, int]], spent: Callable[[int], None]
    ) -> list[Tensor]:
        """A heatmap (H, W) for each row."""
        images_BCHW = torch.stack([image for image, _ in rows]).to(model.device, model.dtype)
        maps_BHW = self.method.heatmaps(model, images_BCHW, [target for _, target in rows])
        spent(len(rows) * self.method.evaluations(1, ["insertion"]))
        return list(maps_BHW.cpu())


class Arena:
    """One image on the device, cut into players, with the classes to read out, target first."""

    def __init__(
        self,
        model: Model,
        image_CHW: Tensor,
        regions_HW: Tensor,
        classes: tuple[int, ...],
        key: str,
    ):
        self.model = model
        self.image_CHW = image_CHW
        self.regions_HW = regions_HW
        self.classes = classes
        self.key = key
        self.share_N = fractions(regions_HW)
        self._prepared: dict[Masking, Any] = {}

    def prepare(self, masking: Masking) -> None:
        """Make the image ready to be played with under `masking`."""
        with torch.no_grad():  # here, not around a yield: other tasks run in between
            self._prepared[masking] = masking.prepare(self.model, self.image_CHW, self.regions_HW)

    def open(self, masking: Masking) -> Generator[Query, Outputs, Game]:
        """Prepare the image for a masking and evaluate the empty and the full coalition."""
        n_players = len(self.share_N)
        if masking not in self._prepared:
            self.prepare(masking)
        ends_CN = torch.stack([torch.zeros(n_players).bool(), torch.ones(n_players).bool()])
        ends = yield self.query(masking, ends_CN)
        return Game(n_players=n_players, key=self.key, ends=ends)

    def play(
        self, coroutine: Generator[Tensor, Any, Any], masking: Masking
    ) -> Generator[Query, Outputs, Any]:
        """Run a coroutine of coalitions as queries under `masking`; returns what it returns."""
        result, _ = yield from self._timed(coroutine, masking)
        return result

    def attribute(
        self,
        method: SetGameMethod | HeatmapMethod,
        masking: Masking,
        game: Game,
        objectives: Sequence[Objective],
    ) -> Generator[Query | ProgramQuery, Any, tuple[dict[Objective, Attribution], float]]:
        """Attributions by objective, and the device seconds that they took."""
        explain = getattr(method, "explain", None)
        if explain is not None:
            return (yield from self._timed(explain(game, objectives), masking))
        (heatmap_HW,), seconds = yield ProgramQuery(
            program=Heatmaps(cast(HeatmapMethod, method)),
            rows=[(self.image_CHW, self.classes[0])],
        )
        evaluations = method.evaluations(game.n_players, objectives)
        attribution = from_heatmap(heatmap_HW, self.regions_HW, evaluations)
        return dict.fromkeys(objectives, attribution), seconds

    def _timed(
        self, coroutine: Generator[Tensor, Any, Any], masking: Masking
    ) -> Generator[Query, Outputs, Any]:
        answer: Any = None
        seconds = 0.0
        while True:
            try:
                coalitions_CN = coroutine.send(answer)
            except StopIteration as stop:
                return stop.value, seconds
            answer = yield self.query(masking, coalitions_CN)
            seconds += answer.seconds

    def query(self, masking: Masking, coalitions_CN: Tensor) -> Query:
        """Ask for coalitions under a masking that the image is prepared for."""
        return Query(
            masking=masking,
            prepared=self._prepared[masking],
            coalitions_CN=coalitions_CN,
            classes=self.classes,
        )
