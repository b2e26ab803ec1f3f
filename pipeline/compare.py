"""Two runs of the same games, row by row: how many orders and picks differ, and by how much AUC."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import UsageError
from pipeline.rows import RunDir

GAME = ("dataset", "model", "players", "n_players", "masking", "curve_masking", "order_model")
"""Columns in which rows must agree to be of one game; precision, actors and versions may differ."""
IMAGE = ("shard", "key")
ROW = ("method", "objective")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of one method and objective, over the rows that both runs hold.

    `orders` and `picks` are the shares that are equal (picks: place by place), `first` the share of
    equal first picks before the orders part; AUC differences are of the probability curve.
    """

    game: tuple[Any, ...]
    method: str
    objective: str
    rows: int
    orders: float
    picks: float
    first: float
    auc_mean: float
    auc_largest: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Agreement by game, method and objective, and how many rows the other run lacks."""

    agreements: list[Agreement]
    alone: tuple[int, int]


def compare(one: RunDir, other: RunDir) -> Comparison:
    """Match rows of the same game on the same image.

    Raises UsageError where a run holds a game in several versions, or where nothing matches.
    """
    left, right = _rows(one), _rows(other)
    both = left.keys() & right.keys()
    if not both:
        raise UsageError(f"{one.out} and {other.out} have no row in common{_why(left, right)}")
    groups: dict[tuple[Any, ...], list[tuple[Row, Row]]] = {}
    for identity in both:
        groups.setdefault(identity[len(IMAGE) :], []).append((left[identity], right[identity]))
    return Comparison(
        agreements=[_agreement(key, groups[key]) for key in sorted(groups, key=str)],
        alone=(len(left) - len(both), len(right) - len(both)),
    )


def _agreement(key: tuple[Any, ...], pairs: Iterable[tuple[Row, Row]]) -> Agreement:
    pairs = list(pairs)
    equal = [_equal(a["order"], b["order"]) for a, b in pairs]
    areas_n2 = np.array([[row["auc_probability"] for row in pair] for pair in pairs], dtype=float)
    gaps = np.abs(areas_n2[:, 0] - areas_n2[:, 1])  # NaN of scalar outputs
    *game, method, objective = key
    return Agreement(
        game=tuple(game),
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


def _rows(run: RunDir) -> dict[tuple[Any, ...], Row]:
    """Rows that are ok, by image, game, method and objective."""
    columns = [*IMAGE, *GAME, *ROW, "fingerprint", "order", "auc_probability", "status"]
    identity = (*IMAGE, *GAME, *ROW)
    found: dict[tuple[Any, ...], Row] = {}
    for row in run.read(columns).to_pylist():
        if row["status"] != "ok":
            continue
        twin = found.setdefault(tuple(row[column] for column in identity), row)
        if twin["fingerprint"] != row["fingerprint"]:
            raise UsageError(
                f"{run.out}: {row['method']} is there with two settings "
                f"({twin['fingerprint'][:8]}, {row['fingerprint'][:8]}) for the same images; "
                "compare runs that hold one each"
            )
    return found


def _why(left: dict[tuple[Any, ...], Row], right: dict[tuple[Any, ...], Row]) -> str:
    """The first column in which two runs never agree."""
    for column in (*GAME, *ROW, *IMAGE):
        here, there = ({row[column] for row in rows.values()} for rows in (left, right))
        if here and there and not here & there:
            return f": {column} is {_few(here)} and {_few(there)}"
    return ""


def _few(values: set[Any]) -> str:
    return ", ".join(sorted(map(str, values))[:3]) + (", ..." if len(values) > 3 else "")
