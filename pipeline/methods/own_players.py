"""A method that plays on players of its own, whatever those of the run: its scores become heat.

So LIME cuts superpixels, HSIC a coarse grid, and a subset search the groups of another method's
heat; all are then judged alike, and may cut players in turn.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline import UsageError
from pipeline.game import Ask, Elsewhere, Game, Objective
from pipeline.maps import ranks
from pipeline.masking import Masking
from pipeline.methods import Attribution, Coroutine, Explanation, Method
from pipeline.methods.heatmaps import from_heatmap
from pipeline.players import Players, View, blank
from pipeline.players.patch_grid import PatchGrid

NOMINAL = {"input_size": (3, 224, 224), "mean": (0.5,) * 3, "std": (0.5,) * 3}
"""Of the image on which own players are counted before there is one."""


@dataclass(frozen=True, kw_only=True)
class OwnPlayers:
    """`method` on `players`, hidden by `masking`. A pixel has its player's score, or where the
    method gives none the rank along its order; `smooth`: bilinear between patches of a grid."""

    method: Method
    players: Players
    masking: Masking
    smooth: bool = False

    version: ClassVar[int] = 1
    searches = False

    def __post_init__(self):
        if self.smooth and not isinstance(self.players, PatchGrid):
            raise UsageError("smooth=true: only patches of a grid have values to go between")

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Those of the method."""
        return self.method.objectives

    def most_forwards(self, n_players: int) -> int:
        """Those of the method, of the prior that cuts its players, and of its end points."""
        height, width = NOMINAL["input_size"][1:]
        heat_HW = None if self._prior is None else torch.arange(float(height * width))
        regions_HW = self.players(
            blank(NOMINAL), None if heat_HW is None else heat_HW.view(height, width)
        )
        cutting = 0 if self._prior is None else self._prior.most_forwards(n_players)
        return cutting + self.method.most_forwards(int(regions_HW.max()) + 1)

    def explain(self, game: Game) -> Coroutine:
        """The run's players by their mean heat, for each objective."""
        assert game.view is not None and game.regions_HW is not None
        found, regions_HW = yield from self._found(game.view.image_CHW, game.target)
        cutting = 0 if self._prior is None else self._prior.most_forwards(game.n_players)
        return {
            objective: from_heatmap(
                self._heat(one, regions_HW), game.regions_HW, one.evaluations + cutting
            )
            for objective, one in found.items()
        }

    def heat(self, image_CHW: Tensor, target: int) -> Generator[Ask, Any, Tensor]:
        """Importance per pixel (H, W), of the first objective."""
        found, regions_HW = yield from self._found(image_CHW, target)
        return self._heat(next(iter(found.values())), regions_HW)

    @property
    def _prior(self) -> Any:
        return getattr(self.players, "prior", None)

    def _found(
        self, image_CHW: Tensor, target: int
    ) -> Generator[Ask, Any, tuple[Explanation, Tensor]]:
        """What the method finds, and the players (H, W) that it was asked about."""
        heat_HW, cuts = None, []
        if self._prior is not None:
            heat_HW = yield from self._prior.heat(image_CHW, target)

        def cut(view: View) -> Tensor:
            cuts.append(self.players(view, heat_HW))
            return cuts[-1]

        found = yield Elsewhere(self.method.explain, cut=cut, masking=self.masking)
        return found, cuts[-1]

    def _heat(self, found: Attribution, regions_HW: Tensor) -> Tensor:
        n = int(regions_HW.max()) + 1
        scores_N = torch.from_numpy(ranks(found.order, n))
        if found.scores_N is not None:
            scores_N = found.scores_N
        if not self.smooth:
            return scores_N.float()[regions_HW]
        grid = round(n**0.5)
        cells_gg = scores_N.float().view(1, 1, grid, grid)
        return interpolate(cells_gg, regions_HW.shape, mode="bilinear", align_corners=False)[0, 0]
