"""Rows to statistics, whatever the study: groups of rows, bootstrap intervals, summary files."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline import UsageError
from pipeline.failures import told
from pipeline.rows import RunDir, Storage

SUBSETS = ("all", "correct", "wrong")
LABELS = (
    *("dataset", "model", "weights", "players", "masking", "curve_masking", "judge", "method"),
    *("order_model", "order_weights"),
)
"""Columns that say in words what a fingerprint stands for."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """A mean over images on a common grid, with its pointwise interval; arrays of shape (G,)."""

    mean_G: np.ndarray
    low_G: np.ndarray
    high_G: np.ndarray

    @classmethod
    def nothing(cls, points: int) -> "Band":
        """Of no images."""
        return cls(**dict.fromkeys(("mean_G", "low_G", "high_G"), np.full(points, np.nan)))


class Rows(NamedTuple):
    """Rows of one fingerprint (and objective, where `by` says so), and their labels."""

    key: dict[str, Any]
    rows: pa.Table


def check(settings: Mapping[str, Any]) -> None:
    """Raise UsageError for settings out of range."""
    if settings["subset"] not in SUBSETS:
        raise UsageError(f"subset={settings['subset']!r}: use one of {', '.join(SUBSETS)}")
    for name, least in (("grid", 2), ("resamples", 1), ("gallery", 0)):
        if settings[name] < least:
            raise UsageError(f"{name}={settings[name]}: give at least {least}")
    if not 0 < settings["confidence"] < 1:
        raise UsageError(f"confidence={settings['confidence']}: it lies between 0 and 1")


def failed(run: RunDir) -> str:
    """How many of a run's rows failed, and why, in one line; empty where none did."""
    rows = run.read(["status", "error"])
    errors = rows.filter(pc.not_equal(rows["status"], "ok"))["error"].to_pylist()
    return told(Counter(str(error) for error in errors), len(rows))


def selected(run: RunDir, subset: str, without: Sequence[str] = ()) -> pa.Table:
    """Rows of a subset, by image, so that resamples draw the same ones whichever worker was first:
    `all`, `correct` (the prediction is the label) or `wrong` (there is a label, and it is another);
    `without` columns that take much memory.

    Raises UsageError for a run, or a subset of it, without rows.
    """
    columns = [name for name in run.kind.schema.names if name not in without]
    rows = run.read(columns if without else None).sort_by(
        [(name, "ascending") for name in ("dataset", "shard", "key")]
    )
    if subset != "all":
        right = pc.equal(rows["prediction"], rows["label"])  # null without a label
        rows = rows.filter(right if subset == "correct" else pc.invert(right))
        if not len(rows):
            said = "equals" if subset == "correct" else "differs from"
            raise UsageError(f"subset={subset}: no image has a label that its prediction {said}")
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


def save(run: Storage, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write <out>/<name>.parquet and .csv."""
    table = pa.Table.from_pylist(completed(rows))
    buffer, text = io.BytesIO(), io.BytesIO()
    pq.write_table(table, buffer)
    pyarrow.csv.write_csv(table, text)
    run.write(run.path(f"{name}.parquet"), buffer.getvalue())
    run.write(run.path(f"{name}.csv"), text.getvalue())


def completed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with every name that one of them has; what a row lacks is None."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]


def bootstrap_weights(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n images is drawn in each resample, over n: float64 (R, n), in blocks of
    64 resamples, which fit into memory whatever n is."""
    for done in range(0, resamples, 64):
        rng = np.random.default_rng(seed + done)
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(64, resamples - done)) / n


def intervals(
    values_nG: np.ndarray, *, resamples: int, seed: int, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the mean over images of each column, (G,) each."""
    weights = bootstrap_weights(len(values_nG), resamples, seed)
    means_RG = np.concatenate([weights_Rn @ values_nG for weights_Rn in weights])
    tail = (1 - confidence) / 2
    low_G, high_G = np.quantile(means_RG, [tail, 1 - tail], axis=0)
    return low_G, high_G
