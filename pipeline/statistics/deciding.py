"""One question put to a run: is a method better than another? Asked of its rows, image by image."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import UsageError
from pipeline.components import suggestion
from pipeline.statistics.decision import Decision, decide
from pipeline.statistics.direction import direction

IMAGE = ("dataset", "shard", "key")
COLUMNS = ("method", "objective", "curve_masking", "judge", "fingerprint", "status", "measure")
DECIDABLE = ("auc_probability", "auc_top1")
"""Quantities between 0 and 1."""
Image = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Question:
    """`method` against `against`, by an area of the curves of one objective; `curve_masking` and
    `judge` where rows of several are there. `margin` and `alpha` as of `decision`."""

    method: str
    against: str
    objective: str = "insertion"
    quantity: str = "auc_probability"
    curve_masking: str | None = None
    judge: str | None = None
    margin: float = 0.0
    alpha: float = 0.05

    @property
    def columns(self) -> list[str]:
        """What rows have to say."""
        return [*IMAGE, *COLUMNS, self.quantity]

    def asked(self) -> dict[str, Any]:
        """As it is written down."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(kw_only=True)
class Answers:
    """What rows say, as they come: by image, what the method is better by."""

    question: Question
    values: tuple[dict[Image, float], dict[Image, float]] = field(default_factory=lambda: ({}, {}))
    prints: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))
    known: set[str] = field(default_factory=set)
    sign: int = 1

    def hear(self, rows: pa.Table) -> None:
        """Take note of rows with the question's columns. Raises UsageError where a method is there
        with several settings."""
        asked = self.question
        for row in rows.to_pylist():
            self.known.add(row["method"])
            if row["method"] not in (asked.method, asked.against):
                continue
            wanted = {"objective": asked.objective}
            wanted |= {"curve_masking": asked.curve_masking, "judge": asked.judge}
            if any(value not in (None, row[name]) for name, value in wanted.items()):
                continue
            place = 0 if row["method"] == asked.method else 1
            self.prints[place].add(row["fingerprint"])
            if len(self.prints[place]) > 1:
                raise UsageError(
                    f"{row['method']} is there with several settings; say which by curve_masking= "
                    "or judge=, or use a run that holds one"
                )
            good, value = row["status"] == "ok", row[asked.quantity]
            if good and value is None:
                raise UsageError(f"{row['method']} has no {asked.quantity}; its judge gives none")
            self.values[place][tuple(row[name] for name in IMAGE)] = value if good else np.nan
            self.sign = direction(str(row["measure"] or ""), asked.objective)

    def images(self) -> list[Image]:
        """Of which both methods have rows. Raises UsageError where a method has none."""
        for name, values in zip(("method", "against"), self.values, strict=True):
            if not values:
                said = getattr(self.question, name)
                why = suggestion(said, sorted(self.known)) if said not in self.known else "none fit"
                raise UsageError(f"{name}={said}: no rows of it; {why}")
        return [image for image in self.values[0] if image in self.values[1]]

    def gains(self, order: Sequence[Image]) -> np.ndarray:
        """What the method is better by on the first images of an order, up to one that lacks rows;
        0 where one of the two failed."""
        ours, theirs = self.values
        found = []
        for image in order:
            if image not in ours or image not in theirs:
                break
            found.append(ours[image] - theirs[image])
        return self.sign * np.nan_to_num(np.array(found, dtype=float))

    def failed(self, images: Iterable[Image]) -> int:
        """Of how many images one of the two failed."""
        ours, theirs = self.values
        return sum(math.isnan(ours.get(i, 0.0) - theirs.get(i, 0.0)) for i in images)

    def decision(self, order: Sequence[Image]) -> Decision:
        """What they say, of all images in random order."""
        asked = self.question
        gain_n = self.gains(order)
        return decide(gain_n, len(order), margin=asked.margin, alpha=asked.alpha)


def written(question: Question, seed: int, failed: int, found: Decision) -> Mapping[str, Any]:
    """The content of <out>/decision.json."""
    return (
        question.asked() | {"seed": seed, "failed": failed} | vars(found) | {"said": found.text()}
    )
