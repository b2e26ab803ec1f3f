"""Is the heat where the object is? Of samples that say in which boxes it lies.

Pointing game (Zhang et al., ECCV 2016): whether the hottest pixel, with a tolerance, lies in a box.
Energy (Wang et al., CVPR-W 2020): which share of all positive heat does.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.data import Sample
from pipeline.data.images import size
from pipeline.game import Game, Objective
from pipeline.judges import Verdict, heat
from pipeline.methods import Attribution
from pipeline.players.label_maps import followed


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """`measure`: pointing or energy. `field` of the sample's json: a box or a list of boxes, four
    numbers in pixels of the image itself, `form`: xyxy (left, top, right, bottom) or xywh.
    `tolerance`: of pointing, in pixels of the model's input; 15 in the paper."""

    measure: Literal["pointing", "energy"] = "pointing"
    field: str = "boxes"
    form: Literal["xyxy", "xywh"] = "xyxy"
    tolerance: int = 15

    version: ClassVar[int] = 1

    def __post_init__(self):
        if self.measure not in ("pointing", "energy"):
            raise UsageError(f"judge.measure={self.measure!r}: use pointing or energy")
        if self.form not in ("xyxy", "xywh"):
            raise UsageError(f"judge.form={self.form!r}: use xyxy or xywh")
        if self.tolerance < 0:
            raise UsageError(f"judge.tolerance={self.tolerance}: give 0 or more pixels")

    @property
    def members(self) -> tuple[str, ...]:
        """Where boxes are."""
        return ("json",)

    def forwards(self, n_players: int) -> int:
        """None."""
        return 0

    def judge(self, found: Attribution, objective: Objective, game: Game) -> Verdict:
        """0 or 1, or a share. Raises ValueError for a sample without boxes that can be seen."""
        yield from ()
        assert game.view is not None
        if game.view.blank or game.view.sample is None:
            raise UsageError("judge: boxes are of a data set's samples")
        boxes = boxes_of(game.view.sample, self.field)
        inside_HW = visible(boxes, self.form, game.view.sample, game.view.preprocessing)
        heat_HW = heat(found, game)
        if self.measure == "energy":
            positive_HW = heat_HW.double().clamp_min(0)
            if not positive_HW.sum():
                raise ValueError("energy in boxes: no pixel has positive heat")
            value = float(positive_HW[inside_HW].sum() / positive_HW.sum())
        else:
            row, column = divmod(int(heat_HW.argmax()), heat_HW.shape[1])
            value = float(_near(inside_HW, row, column, self.tolerance))
        return {"measure": self.measure, "value": value}


def visible(
    boxes: Sequence[Sequence[float]], form: str, sample: Sample, preprocessing: Any
) -> Tensor:
    """Where boxes lie on the model's input, bool (H, W). Raises ValueError for what is no box, or
    was cut away."""
    height, width = size(sample.encoded, exif=sample.exif)
    inside_HW = torch.zeros(height, width, dtype=torch.long)
    for left, top, right, bottom in boxes:
        if form == "xywh":
            right, bottom = left + right, top + bottom
        if not (left < right and top < bottom and np.isfinite([left, top, right, bottom]).all()):
            raise ValueError(f"{sample.key}: {[left, top, right, bottom]} is no box ({form})")
        rows = slice(max(0, round(top)), max(0, round(bottom)))
        inside_HW[rows, max(0, round(left)) : max(0, round(right))] = 1
    if not inside_HW.any():
        raise ValueError(f"{sample.key}: the boxes lie outside its {height} x {width} pixels")
    seen_HW = followed(inside_HW, preprocessing) == 1
    if not seen_HW.any():
        raise ValueError(f"{sample.key}: the boxes are cut away with the image's border")
    return seen_HW


def boxes_of(sample: Sample, field: str) -> list[list[float]]:
    """The boxes that a sample's json holds. Raises ValueError where it holds none."""
    raw = sample.members.get("json")
    if raw is None:
        raise ValueError(f"{sample.key} has no member json that could hold boxes")
    found = json.loads(raw).get(field)
    boxes = [found] if found and not isinstance(found[0], list) else found
    if not boxes or any(len(box) != 4 for box in boxes):
        raise ValueError(f"{sample.key}: its json holds no box in {field!r} (judge.field)")
    return boxes


def _near(inside_HW: Tensor, row: int, column: int, tolerance: int) -> bool:
    """Whether a pixel of a box lies within the tolerance of a place."""
    rows, columns = inside_HW.nonzero().T
    return bool((((rows - row) ** 2 + (columns - column) ** 2) <= tolerance**2).any())
