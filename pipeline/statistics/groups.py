"""Rows that belong together: subsets of images, groups of one fingerprint, what failed."""

from collections import Counter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import UsageError
from pipeline.failures import told
from pipeline.rows import RunDir

SUBSETS = ("all", "correct", "wrong")
LABELS = (
    *("dataset", "model", "weights", "players", "masking", "curve_masking", "judge", "method"),
    *("order_model", "order_weights"),
)
"""Columns that say in words what a fingerprint stands for."""


class Rows(NamedTuple):
    """Rows of one fingerprint (and objective, where `by` says so), and their labels."""

    key: dict[str, Any]
    rows: pa.Table


def failed(run: RunDir) -> str:
    """How many of a run's rows failed, and why, in one line; empty where none did."""
    rows = run.read(["status", "error"])
    errors = rows.filter(pc.not_equal(rows["status"], "ok"))["error"].to_pylist()
    return told(Counter(str(error) for error in errors), len(rows))


def selected(run: RunDir, subset: str) -> pa.Table:
    """Rows of a subset, by image, so that resamples draw the same ones whichever worker was first:
    `all`, `correct` (the prediction is the label), `wrong` (there is a label, and it is another) or
    <column>:<value>.

    Raises UsageError for a run, or a subset of it, without rows.
    """
    rows = run.read().sort_by([(name, "ascending") for name in ("dataset", "shard", "key")])
    if subset == "all":
        return rows
    if subset in ("correct", "wrong"):
        right = pc.equal(rows["prediction"], rows["label"])  # null without a label
        rows = rows.filter(right if subset == "correct" else pc.invert(right))
        if not len(rows):
            said = "equals" if subset == "correct" else "differs from"
            raise UsageError(f"subset={subset}: no image has a label that its prediction {said}")
        return rows
    name, _, value = subset.rpartition(":")
    if name not in rows.column_names:
        raise UsageError(f"subset={subset}: use {', '.join(SUBSETS)} or <column>:<value>")
    rows = rows.filter(pc.equal(rows[name].cast(pa.string()), value))
    if not len(rows):
        raise UsageError(f"subset={subset}: no row is")
    return rows


def grouped(rows: pa.Table, *facets: str) -> list[Rows]:
    """Rows by fingerprint and facets, in order of appearance: one address is one group, even where
    its labels have changed between runs. A label that older rows lack is None."""
    by = [*facets, "fingerprint"]
    keys = rows.select(by).group_by(by, use_threads=False).aggregate([]).to_pylist()
    found = []
    for key in keys:
        mine = rows
        for column, value in key.items():
            mine = mine.filter(pc.equal(mine[column], value))
        there = [column for column in LABELS if column in rows.column_names]
        (labels,) = mine.slice(0, 1).select(there).to_pylist()
        found.append(Rows(labels | key, mine))
    return found


def n_images(rows: pa.Table) -> int:
    """Images that rows are about."""
    return len(
        rows.select(["dataset", "shard", "key"]).group_by(["dataset", "shard", "key"]).aggregate([])
    )
