"""Input x gradient (Shrikumar et al., 2016, arXiv:1605.01713): a first-order share of the output.

Sum over channels of x d y_t / d x, y the logit or the probability, x after normalisation.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pipeline.game import OBJECTIVES, Game
from pipeline.methods import Coroutine
from pipeline.methods.gradients import input_gradients
from pipeline.methods.heatmaps import HeatRequest, by_heat, gradient_heat
from pipeline.methods.readings import Read, check_read
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class InputXGradient:
    """`read`: `logit` or `probability`."""

    read: Read = "logit"

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        check_read("input_x_gradient.read", self.read)

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
        gradients_BCHW = input_gradients(model, images_BCHW, targets, self.read)
        return (images_BCHW * gradients_BCHW).sum(1)
