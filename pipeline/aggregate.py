"""Rows to statistics: mean curves and AUCs with bootstrap intervals over images."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline import UsageError
from pipeline.results import Run

GROUP = (
    "dataset",
    "model",
    "players",
    "masking",
    "curve_masking",
    "method",
    "objective",
    "fingerprint",
)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A mean over images on the common grid, with its pointwise interval; arrays of shape (G,)."""

    mean_G: np.ndarray
    low_G: np.ndarray
    high_G: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Group:
    """Statistics of one (dataset, model, players, masking, curve masking, method, objective).

    `summary` is its row of summary.parquet; `probability` and `top1` are its mean curves.
    """

    summary: dict[str, Any]
    fraction_G: np.ndarray
    probability: Curve
    top1: Curve


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """All groups of a run, in order of method and objective, and the rows that they stand on."""

    groups: list[Group]
    rows: pa.Table
    settings: Mapping[str, Any]


def aggregate(run: Run, settings: Mapping[str, Any]) -> Aggregate:
    """Group the rows of a run and compute each group's statistics.

    Raises UsageError for a run without rows to stand on.
    """
    rows, keys = grouped(run, GROUP, settings["subset"])
    keys.sort(key=lambda k: tuple(str(k[g]) for g in GROUP))
    return Aggregate(
        groups=[_statistics(_select(rows, key), key, settings) for key in keys],
        rows=rows,
        settings=settings,
    )


def grouped(run: Run, group: tuple[str, ...], subset: str) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Rows of a subset and the values of the `group` columns that occur, in order of appearance.

    Raises UsageError for a run, or a subset of it, without rows.
    """
    rows = run.read()
    if subset == "correct":
        rows = rows.filter(pc.equal(rows["prediction"], rows["label"]))
        if not len(rows):
            raise UsageError("subset=correct: no image has a label that its prediction equals")
    columns = list(group)
    return rows, rows.select(columns).group_by(columns).aggregate([]).to_pylist()


def check(settings: Mapping[str, Any]) -> None:
    """Raise UsageError for settings out of range."""
    if settings["subset"] not in ("all", "correct"):
        raise UsageError(f"subset={settings['subset']!r}: use 'all' or 'correct'")
    if settings["grid"] < 2 or settings["resamples"] < 1 or not 0 < settings["confidence"] < 1:
        raise UsageError("grid needs 2 points, resamples 1, confidence lies between 0 and 1")


def write(run: Run, found: Aggregate) -> None:
    """Write summary.parquet and summary.csv."""
    save(run, "summary", [group.summary for group in found.groups])


def save(run: Run, name: str, rows: list[dict[str, Any]]) -> None:
    """Write <out>/<name>.parquet and .csv."""
    table = pa.Table.from_pylist(completed(rows))
    buffer, text = io.BytesIO(), io.BytesIO()
    pq.write_table(table, buffer)
    pyarrow.csv.write_csv(table, text)
    run.write(run.path(f"{name}.parquet"), buffer.getvalue())
    run.write(run.path(f"{name}.csv"), text.getvalue())


def completed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


def on_grid(rows: pa.Table, column: str, grid_G: np.ndarray) -> np.ndarray:
    """Each row's curve read off at the grid's fractions, linear between its points, (n, G)."""
    pairs = zip(rows["fraction"], rows[column], strict=True)
    return np.stack(
        [
            np.interp(grid_G, x.values.to_numpy(), y.values.to_numpy(zero_copy_only=False))
            for x, y in pairs
        ]
    )


def _select(rows: pa.Table, key: Mapping[str, Any]) -> pa.Table:
    chosen = pc.and_(
        pc.equal(rows["fingerprint"], key["fingerprint"]),
        pc.equal(rows["objective"], key["objective"]),
    )
    return rows.filter(chosen)


def _statistics(rows: pa.Table, key: Mapping[str, Any], settings: Mapping[str, Any]) -> Group:
    good = rows.filter(pc.equal(rows["status"], "ok"))
    grid_G = np.linspace(0, 1, settings["grid"])
    summary: dict[str, Any] = dict(key) | {
        "subset": settings["subset"],
        "n": len(good),
        "failed": len(rows) - len(good),
    }
    resample = {k: settings[k] for k in ("resamples", "seed", "confidence")}
    columns = ("auc_probability", "auc_top1", "flip", "evaluations", "seconds")
    if not len(good):
        nothing = Curve(
            **dict.fromkeys(("mean_G", "low_G", "high_G"), np.full(len(grid_G), np.nan))
        )
        empty = dict.fromkeys(_summary_names(columns), float("nan"))
        return Group(summary=summary | empty, fraction_G=grid_G, probability=nothing, top1=nothing)
    aucs_n2 = np.stack([good[c].to_numpy() for c in columns[:2]], 1)
    low_2, high_2 = intervals(aucs_n2, **resample)
    for i, name in enumerate(columns[:2]):
        summary[name] = float(aucs_n2[:, i].mean())
        summary[f"{name}_low"], summary[f"{name}_high"] = float(low_2[i]), float(high_2[i])
    for name in columns[2:]:
        mean = pc.mean(good[name]).as_py()
        summary[name] = float("nan") if mean is None else float(mean)
    labelled = good.filter(pc.is_valid(good["label"]))
    correct = pc.mean(pc.equal(labelled["label"], labelled["prediction"])).as_py()
    summary["accuracy"] = float("nan") if correct is None else correct
    curves = {}
    for column in ("probability", "top1"):
        values_nG = on_grid(good, column, grid_G)
        low_G, high_G = intervals(values_nG, **resample)
        curves[column] = Curve(mean_G=values_nG.mean(0), low_G=low_G, high_G=high_G)
    return Group(summary=summary, fraction_G=grid_G, **curves)


def _summary_names(columns: tuple[str, ...]) -> list[str]:
    bounds = [f"{c}_{side}" for c in columns[:2] for side in ("low", "high")]
    return [*columns, *bounds, "accuracy"]
