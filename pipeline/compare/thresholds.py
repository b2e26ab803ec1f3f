"""How much two runs may differ before a comparison counts as failed."""

import math
from collections.abc import Mapping, Sequence

from pipeline.compare.agreement import Agreement

LEAST = ("same_order", "same_picks", "overlap", "iou", "spearman", "kendall")
"""Means that must not be lower; others must not be higher."""


def exceeded(found: Sequence[Agreement], limits: Mapping[str, float | None]) -> list[str]:
    """A line for each threshold that a game, method and objective is beyond; None is no threshold.

    `limits`: names of LEAST, or `flips`, `loss` and `change`, which must not be higher.
    """
    said = []
    for one in found:
        where = f"{one.method}, {one.objective}"
        for name, limit in limits.items():
            if limit is None:
                continue
            low = name in LEAST
            value = one.shares[name] if low else _most(one, name)
            if not math.isnan(value) and (value < limit if low else value > limit):
                sign = "<" if low else ">"
                said.append(f"{where}: {name} {value:.4g} {sign} {limit:g} (fail_if.{name})")
    return said


def _most(one: Agreement, name: str) -> float:
    return {"flips": one.flips, "loss": one.loss, "change": abs(one.difference)}[name]
