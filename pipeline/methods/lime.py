"""LIME (Ribeiro, Singh & Guestrin, KDD 2016): a linear model of coalitions near the whole image.

Weighted ridge regression of f(S) on which players are visible. Coalitions are uniform; their weight
is sqrt(exp(-d^2 / width^2)) with d = 1 - sqrt(|S| / n), the cosine distance to the whole, as for
images in the authors' package. The scores are the slopes.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.game import OBJECTIVES, Game, Read
from pipeline.methods import Coroutine
from pipeline.methods.sampling import check, result, values_of


@dataclass(frozen=True, kw_only=True)
class Lime:
    """`forwards` coalitions at the most. `width`: of the kernel; `ridge`: penalty of the slopes;
    `read`: log_odds, probability or logit of the target."""

    forwards: int = 1000
    width: float = 0.25
    ridge: float = 1.0
    read: Read = "probability"
    seed: int = 0

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        check("lime", self.read, self.forwards)
        if self.width <= 0 or self.ridge <= 0:
            raise UsageError(
                f"lime.width={self.width}, lime.ridge={self.ridge}: give positive numbers"
            )

    def most_forwards(self, n_players: int) -> int:
        """One a coalition."""
        return self.forwards

    def explain(self, game: Game) -> Coroutine:
        """Ask for random coalitions; the whole image, which is known, is one more."""
        n, rng = game.n_players, game.rng(self.seed)
        drawn_CN = torch.from_numpy(rng.random((self.forwards, n)) < 0.5)
        every_CN = torch.cat([torch.ones(1, n, dtype=torch.bool), drawn_CN])
        value_C, asked = yield from values_of(every_CN, game, self.read)
        distance_C = 1 - (every_CN.double().mean(1)).sqrt()
        weight_C = (-((distance_C / self.width) ** 2) / 2).exp()
        return result(slopes(every_CN.double(), value_C, weight_C, self.ridge), asked)


def slopes(x_CN: Tensor, y_C: Tensor, weight_C: Tensor, ridge: float) -> Tensor:
    """Weighted ridge regression with an intercept that is not penalised: slopes (N,)."""
    share_C = weight_C / weight_C.sum()
    x_CN, y_C = x_CN - share_C @ x_CN, y_C - share_C @ y_C
    xw_NC = x_CN.T * weight_C
    return torch.linalg.solve(
        xw_NC @ x_CN + ridge * torch.eye(x_CN.shape[1], dtype=x_CN.dtype), xw_NC @ y_C
    )
