"""A row for every pair of rows that belong together: what has changed between them.

`difference` is always the run's value less the other's; `loss` is the same read so that more is
worse, null where a measure has no better and worse. docs/reevaluation.md explains every column.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.compare.matching import ACROSS, GAME, Pairs, Side
from pipeline.compare.orders import iou, likeness

AGAINST = tuple(dict.fromkeys(column for columns in ACROSS.values() for column in columns))
"""Columns that two runs may differ in; the other's are called against_<column>."""
DRIFT = pa.schema(
    [
        *((name, pa.string()) for name in ("dataset", "shard", "key", "method", "objective")),
        *((name, pa.string()) for name in ("model", "weights", "players", "masking")),
        *((name, pa.string()) for name in ("curve_masking", "judge")),
        *((name, pa.string()) for name in ("order_model", "order_weights", "fingerprint")),
        *((f"against_{name}", pa.string()) for name in (*AGAINST, "fingerprint")),
        *((name, pa.int32()) for name in ("n_players", "label")),
        *((name, pa.int32()) for name in ("prediction", "against_prediction")),
        *((name, pa.int32()) for name in ("target", "against_target")),
        ("flipped", pa.bool_()),
        *((name, pa.bool_()) for name in ("correct", "against_correct")),
        ("same_order", pa.bool_()),
        *((name, pa.float64()) for name in ("same_picks", "parting", "overlap", "iou")),
        *((name, pa.float64()) for name in ("spearman", "kendall")),
        ("measure", pa.string()),
        *((name, pa.float64()) for name in ("value", "against_value", "difference", "loss")),
        *((name, pa.float64()) for name in ("auc_difference", "auc_top1_difference")),
        *((name, pa.float64()) for name in ("inside", "against_inside", "moved")),
    ]
)
"""Columns of drift.parquet; `inside` and `moved` are filled where boxes are looked at."""
AREAS = ("auc_", "mean_", "mas")
"""How measures begin that are areas: high is good of insertion, low of deletion."""
AT_ONCE = 10_000
"""Rows that are held as Python objects."""
SHOWN = (
    *("shard", "key", "method", "objective", "fingerprint", "against_fingerprint", "measure"),
    *("difference", "iou", "same_picks", "flipped", "prediction", "against_prediction"),
)
"""Columns that say how far a row has drifted, and what is shown of it."""
BETTER_HIGH = ("mu_fidelity", "monotonicity", "pointing", "energy", "srg")


def drift(pairs: Pairs, top: float) -> pa.Table:
    """A row of DRIFT for every pair; `top`: the share of the players whose overlap is told."""
    here, there = (_Columns(side) for side in pairs.sides)
    both = list(zip(pairs.here_P.tolist(), pairs.there_P.tolist(), strict=True))
    tables = [DRIFT.empty_table()]
    for start in range(0, len(both), AT_ONCE):
        rows = [_row(here, i, there, j, top) for i, j in both[start : start + AT_ONCE]]
        tables.append(pa.Table.from_pylist(rows, schema=DRIFT))
    return pa.concat_tables(tables)


def direction(measure: str, objective: str) -> int:
    """1 where more of a measure is better, -1 where less is, 0 where neither is."""
    if measure in BETTER_HIGH:
        return 1
    if not measure.startswith(AREAS) or measure.endswith("_output"):
        return 0
    backwards = measure.endswith("_least_first")
    return 1 if (objective == "insertion") != backwards else -1


def worst(table: pa.Table, limit: int) -> list[tuple[tuple[str, str], list[dict[str, Any]]]]:
    """Images that drifted most, (shard, key), with SHOWN of their rows, most drifted first: by the
    largest difference of a row, then by the least overlap of flip sets, then of orders. Images
    without a change are left out."""
    images: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table.select(list(SHOWN)).to_pylist():
        images.setdefault((row["shard"], row["key"]), []).append(row)
    found = [(place, sorted(rows, key=_size, reverse=True)) for place, rows in images.items()]
    moved = [(place, rows) for place, rows in found if any(_size(rows[0])) or rows[0]["flipped"]]
    moved.sort(key=lambda one: one[0])
    return sorted(moved, key=lambda one: _size(one[1][0]), reverse=True)[:limit]


def _size(row: dict[str, Any]) -> tuple[float, float, float]:
    common = row["iou"] if row["iou"] is not None else 1.0
    return abs(row["difference"] or 0.0), 1 - common, 1 - row["same_picks"]


class _Columns:
    """A side's rows by column, lists as slices of one array."""

    def __init__(self, side: Side):
        rows = side.rows
        single = [c for c in rows.column_names if c not in ("order", "fraction", "content")]
        self._values = {name: rows[name].to_pylist() for name in single}
        self._order = _slices(rows["order"])
        self._curved = np.asarray(rows["fraction"].is_valid())

    def __getitem__(self, name: str) -> list[Any]:
        return self._values[name]

    def order(self, i: int) -> np.ndarray:
        values, offsets = self._order
        return values[offsets[i] : offsets[i + 1]]

    def measured(self, i: int) -> tuple[str | None, float | None]:
        """What the judge measures, and the value; areas of older rows are what they are."""
        value = _number(self["value"][i])
        if value is None:
            value = _number(self["auc_probability"][i])
        return self["measure"][i] or (None if value is None else "auc_probability"), value

    def flip_set(self, i: int) -> np.ndarray | None:
        """Players up to the flip, all that were picked where it never comes; None where the curve
        takes no step a player in the order's own sense."""
        measure, judge = self["measure"][i] or "", self["judge"][i] or ""
        backwards = measure == "monotonicity" or measure.endswith("_least_first")
        if not self._curved[i] or backwards or judge.startswith("pixel_steps"):
            return None
        return self.order(i)[: self["flip"][i]]


def _slices(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Values and offsets of a column of lists."""
    lists = column.combine_chunks()
    return lists.flatten().to_numpy(zero_copy_only=False), np.concatenate(
        [[0], np.cumsum(np.asarray(lists.value_lengths().fill_null(0)))]
    ).astype(np.int64)


def _row(here: _Columns, i: int, there: _Columns, j: int, top: float) -> dict[str, Any]:
    same = (*GAME, "method", "objective", "shard", "key", "fingerprint", "label")
    row = {name: here[name][i] for name in same}
    row |= {f"against_{name}": there[name][j] for name in (*AGAINST, "fingerprint")}
    for name in ("prediction", "target"):
        row |= {name: here[name][i], f"against_{name}": there[name][j]}
    row["flipped"] = _differ(row["prediction"], row["against_prediction"])
    row["correct"] = _equal(row["prediction"], row["label"])
    row["against_correct"] = _equal(row["against_prediction"], there["label"][j])
    row |= _orders(here, i, there, j, row["n_players"], top)
    measure, value = here.measured(i)
    theirs, against = there.measured(j)
    row |= {"measure": measure, "value": value, "against_value": against}
    if measure == theirs and value is not None and against is not None:
        row["difference"] = value - against
        if sign := direction(str(measure), row["objective"]):
            row["loss"] = 0.0 - sign * row["difference"]
    for name in ("probability", "top1"):
        a, b = _number(here[f"auc_{name}"][i]), _number(there[f"auc_{name}"][j])
        if a is not None and b is not None:
            row["auc_difference" if name == "probability" else "auc_top1_difference"] = a - b
    return row


def _orders(
    here: _Columns, i: int, there: _Columns, j: int, n_players: int, top: float
) -> dict[str, Any]:
    found = likeness(here.order(i), there.order(j), n_players, top)
    mine, theirs = here.flip_set(i), there.flip_set(j)
    return {
        "same_order": found.same,
        "same_picks": found.picks,
        "parting": found.parting,
        "overlap": found.overlap,
        "spearman": found.spearman,
        "kendall": found.kendall,
        "iou": None if mine is None or theirs is None else iou(mine, theirs),
    }


def _number(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value


def _differ(one: Any, other: Any) -> bool | None:
    return None if one is None or other is None else one != other


def _equal(one: Any, other: Any) -> bool | None:
    return None if one is None or other is None else one == other
