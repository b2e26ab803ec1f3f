"""Two runs of the same games, row by row: how many orders and picks differ, and by how much AUC."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.results import Run

COLUMNS = ["shard", "key", "method", "objective", "order", "auc_probability", "auc_top1", "status"]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of one method and objective, over the rows that both runs hold.

    `orders` and `picks` are the shares that are equal (picks: place by place), `first` the share of
    equal first picks before the orders part; AUC differences are of the probability curve.
    """

    method: str
    objective: str
    rows: int
    orders: float
    picks: float
    first: float
    auc_mean: float
    auc_largest: float


def compare(one: Run, other: Run) -> list[Agreement]:
    """Agreement by method and objective; rows are matched by shard and key."""
    left, right = _rows(one), _rows(other)
    groups: dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for identity in left.keys() & right.keys():
        groups.setdefault(identity[2:], []).append((left[identity], right[identity]))
    return [_agreement(*key, groups[key]) for key in sorted(groups)]


def _agreement(method: str, objective: str, pairs: Iterable[tuple[dict, dict]]) -> Agreement:
    pairs = list(pairs)
    equal = [_equal(a["order"], b["order"]) for a, b in pairs]
    gaps = np.abs([a["auc_probability"] - b["auc_probability"] for a, b in pairs])
    return Agreement(
        method=method,
        objective=objective,
        rows=len(pairs),
        orders=float(np.mean([e.all() for e in equal])),
        picks=float(np.mean([e.mean() if len(e) else 1.0 for e in equal])),
        first=float(np.mean([1.0 if e.all() else e.argmin() / len(e) for e in equal])),
        auc_mean=float(gaps.mean()),
        auc_largest=float(gaps.max()),
    )


def _equal(a: list[int], b: list[int]) -> np.ndarray:
    longest = max(len(a), len(b))
    filled = [np.pad(x, (0, longest - len(x)), constant_values=-1) for x in (a, b)]
    return filled[0] == filled[1]


def _rows(run: Run) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    rows = run.read(COLUMNS).to_pylist()
    return {
        (r["shard"], r["key"], r["method"], r["objective"]): r for r in rows if r["status"] == "ok"
    }
