"""HSIC attribution (Novello, Fel & Vigouroux, NeurIPS 2022): how much the output depends on whether
a player is visible, whatever the direction.

Coalitions are a Sobol design, binarised at one half. With a kernel on {0, 1} that tells equal from
different and an RBF kernel L on outputs, its width their median distance, and H = I - 1/m:
HSIC_i = 2 x_i^T (H L H) x_i / (m - 1)^2, x_i the m bits of player i.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.stats import qmc
from torch import Tensor

from pipeline.game import OBJECTIVES, Game, Read
from pipeline.methods import Coroutine
from pipeline.methods.sampling import check, result, values_of


@dataclass(frozen=True, kw_only=True)
class Hsic:
    """`forwards` designs; `read`: log_odds, probability or logit of the target."""

    forwards: int = 500
    read: Read = "probability"
    seed: int = 0

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        check("hsic", self.read, self.forwards, least=2)

    def most_forwards(self, n_players: int) -> int:
        """One a design."""
        return self.forwards

    def explain(self, game: Game) -> Coroutine:
        """Ask for the design. Raises ValueError where every design has one output."""
        design = qmc.Sobol(game.n_players, scramble=True, rng=game.rng(self.seed))
        with warnings.catch_warnings():  # balance at powers of two is not needed
            warnings.simplefilter("ignore", UserWarning)
            coalitions_CN = torch.from_numpy(design.random(self.forwards) > 0.5)
        value_C, asked = yield from values_of(coalitions_CN, game, self.read)
        return result(dependence(coalitions_CN.double(), value_C), asked)


def dependence(x_CN: Tensor, y_C: Tensor) -> Tensor:
    """HSIC of each column of bits with the outputs, (N,)."""
    count = len(y_C)
    distance_CC = (y_C[:, None] - y_C).abs()
    width = distance_CC[torch.ones_like(distance_CC).triu(1).bool()].median()
    width = width if width > 0 else distance_CC.mean()
    if not width:
        raise ValueError("HSIC: the output is the same whatever is visible")
    kernel_CC = (-(distance_CC**2) / (2 * width**2)).exp()
    centred_CC = kernel_CC - kernel_CC.mean(0) - kernel_CC.mean(1, keepdim=True) + kernel_CC.mean()
    return 2 * (x_CN * (centred_CC @ x_CN)).sum(0) / (count - 1) ** 2
