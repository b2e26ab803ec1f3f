"""Controls that know nothing of the model: a good method beats them, a flattering judge does not.

Heat at the centre, where photographs show what they are of; and blurred noise, since smooth orders
alone are rewarded by judges that retrain or fill in (Song et al., 2023, arXiv:2304.13836).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from pipeline import UsageError
from pipeline.game import OBJECTIVES, Game
from pipeline.methods import Coroutine, same_for_all
from pipeline.methods.heatmaps import HeatRequest, by_heat, from_heatmap


@dataclass(frozen=True, kw_only=True)
class CenterGaussian:
    """exp(-d^2 / 2), d the distance from the centre in units of `sigma` sides, for every image."""

    sigma: float = 0.25

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        if not self.sigma > 0:
            raise UsageError(f"center_gaussian.sigma={self.sigma}: give a positive number")

    def most_forwards(self, n_players: int) -> int:
        """None."""
        return 0

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        return (yield from by_heat(self, game))

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Asks nothing."""
        yield from ()
        falls = []
        for side in image_CHW.shape[1:]:
            place_S = (torch.arange(side, dtype=torch.float64) + 0.5) / side - 0.5
            falls.append((-((place_S / self.sigma) ** 2) / 2).exp())
        return torch.outer(*falls)


@dataclass(frozen=True, kw_only=True)
class BlurredRandom:
    """Gaussian noise, a number a pixel, blurred by `sigma` sides of the image; the same for the
    same `seed` and sample key. It has no heat of its own: a key is not known to an image alone."""

    sigma: float = 0.1
    seed: int = 0

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        if not 0 < self.sigma <= 0.25:
            raise UsageError(f"blurred_random.sigma={self.sigma}: give a number up to 0.25")

    def most_forwards(self, n_players: int) -> int:
        """None."""
        return 0

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        yield from ()
        assert game.regions_HW is not None
        noise_HW = game.rng(self.seed).standard_normal(tuple(game.regions_HW.shape))
        found = from_heatmap(self._blurred(noise_HW), game.regions_HW, 0)
        return same_for_all(found, self.objectives)

    def _blurred(self, noise_HW: np.ndarray) -> Tensor:
        """Over three standard deviations each way, reflected at the border."""
        sigmas = [self.sigma * side for side in noise_HW.shape]
        return torch.from_numpy(gaussian_filter(noise_HW, sigmas, mode="mirror", truncate=3.0))
