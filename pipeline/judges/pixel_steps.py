"""Curves over pixels: the hottest pixels first, so many a step, whatever the players are.

RISE (Petsiuk et al., BMVC 2018) inserts into a blurred image and deletes to the mean colour, 224
pixels a step; Xplique, which submodular subset selection (ICLR 2024) is judged by, takes 10 steps
of equal size. Pixels of equal heat follow each other row by row.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.game import Game, Objective
from pipeline.judges import Verdict, heat
from pipeline.judges.areas import auc
from pipeline.judges.curves import columns, elsewhere, fractions, judged_under
from pipeline.masking import Masking
from pipeline.methods import Attribution
from pipeline.players import fractions as shares


@dataclass(frozen=True, kw_only=True)
class PixelSteps:
    """`insertion_steps`, `deletion_steps` of equal size, or `pixels` a step. `insertion_masking`,
    `deletion_masking`: to judge under, None for the run's. `value` is auc_probability.

    Heat is the method's own, in cells (see `pipeline.maps.coarse`); an order without heat ranks
    pixels by their players. The flip counts steps.
    """

    insertion_steps: int | None = None
    deletion_steps: int | None = None
    pixels: int | None = None
    insertion_masking: Masking | None = None
    deletion_masking: Masking | None = None

    version: ClassVar[int] = 1

    def __post_init__(self):
        steps = (self.insertion_steps, self.deletion_steps)
        if (None in steps) == (self.pixels is None) or set(steps) > {None}:
            raise UsageError(
                f"judge.insertion_steps={steps[0]}, judge.deletion_steps={steps[1]}, "
                f"judge.pixels={self.pixels}: give the steps of both, or the pixels of one"
            )
        if any(given is not None and given < 1 for given in (*steps, self.pixels)):
            raise UsageError("judge: steps and pixels are positive numbers")

    def forwards(self, n_players: int) -> int:
        """All points between the ends; of `pixels`, those of an image of 224."""
        steps = max(self.insertion_steps or 0, self.deletion_steps or 0)
        return (steps or -(-224 * 224 // (self.pixels or 1))) - 1

    def judge(self, found: Attribution, objective: Objective, game: Game) -> Verdict:
        """Curve, areas, flip."""
        insertion = objective == "insertion"
        steps = self.insertion_steps if insertion else self.deletion_steps
        masking = self.insertion_masking if insertion else self.deletion_masking
        step_HW = cut(heat(found, game), steps, self.pixels)
        order = list(range(int(step_HW.max()) + 1))
        outputs = yield elsewhere(order, objective, masking, lambda view: step_HW)
        row = columns(outputs, fractions(order, shares(step_HW)), objective)
        measure = "auc_output" if outputs.is_scalar else "auc_probability"
        area = auc(row["fraction"], row["log_odds"]) if outputs.is_scalar else row[measure]
        return row | {"measure": measure, "value": area} | judged_under(masking)


def cut(heat_HW: Tensor, steps: int | None, pixels: int | None) -> Tensor:
    """The step of each pixel, int64 (H, W), the hottest pixels in step 0."""
    count = heat_HW.numel()
    place_P = torch.empty(count, dtype=torch.long)
    place_P[heat_HW.flatten().argsort(descending=True, stable=True)] = torch.arange(count)
    if pixels is not None:
        return (place_P // pixels).view(heat_HW.shape)
    assert steps is not None
    bounds_S = torch.linspace(0, count, min(steps, count) + 1, dtype=torch.float64).long()[1:]
    return torch.bucketize(place_P, bounds_S, right=True).view(heat_HW.shape)
