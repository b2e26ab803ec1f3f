"""Rows to statistics: mean curves and AUCs with bootstrap intervals over images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report import Name
from pipeline.report.tables import Table
from pipeline.rows import RunDir
from pipeline.statistics import LABELS, Band, Rows, grouped, intervals, selected
from pipeline.studies.curves import paper
from pipeline.studies.curves.highest import BUDGETS, highest
from pipeline.studies.curves.published import beside, published
from pipeline.studies.names import names

AUCS = ("auc_probability", "auc_top1")
OF_CURVE = "auc_probability"
"""What a judge measures that says nothing else."""
MEANS = ("flip", "evaluations", "seconds")
CURVES = ("probability", "top1")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Statistics of one fingerprint and objective.

    `summary` is its row of summary.parquet; `curves` holds the mean of each of CURVES.
    """

    summary: dict[str, Any]
    name: Name
    fraction_G: np.ndarray
    curves: Mapping[str, Band]


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """All groups of a run, in order of labels and objective, and the rows that they stand on;
    `names` by fingerprint; `papers`: tables as papers print them."""

    groups: list[Group]
    names: Mapping[str, Name]
    rows: pa.Table
    papers: list[Table]


def aggregate(run: RunDir, settings: Mapping[str, Any]) -> Aggregate:
    """Group the rows of a run and compute each group's statistics.

    Raises UsageError for a run without rows to stand on.
    """
    rows = selected(run, settings["subset"], without=["heat"])
    groups = grouped(rows, "objective")
    order = (*LABELS, "objective", "fingerprint")
    groups.sort(key=lambda group: tuple(str(group.key.get(column)) for column in order))
    provenance = run.metadata()
    named = names([group.key for group in groups], provenance)
    printed = published(provenance)
    found = []
    for group in groups:
        fingerprint = group.key["fingerprint"]
        one = _statistics(group, named[fingerprint], settings)
        one.summary.update(beside(printed.get(fingerprint, {}), group.key["objective"]))
        found.append(one)
    places = [(g.summary["fingerprint"], g.summary["objective"]) for g in found]
    papers = paper.tables(
        {place: g.summary for place, g in zip(places, found, strict=True)},
        {place: (g.fraction_G, g.curves) for place, g in zip(places, found, strict=True)},
        provenance,
    )
    return Aggregate(groups=found, names=named, rows=rows, papers=papers)


def on_grid(rows: pa.Table, column: str, grid_G: np.ndarray) -> np.ndarray:
    """Each row's curve read off at the grid's fractions, linear between its points, (n, G); NaN
    where it has none."""
    pairs = zip(rows["fraction"], rows[column], strict=True)
    return np.stack(
        [
            np.interp(grid_G, x.values.to_numpy(), y.values.to_numpy(zero_copy_only=False))
            if y.is_valid
            else np.full(len(grid_G), np.nan)
            for x, y in pairs
        ]
    )


def _statistics(group: Rows, name: Name, settings: Mapping[str, Any]) -> Group:
    good = group.rows.filter(pc.equal(group.rows["status"], "ok"))
    curved = good.filter(pc.is_valid(good["fraction"]))
    grid_G = np.linspace(0, 1, settings["grid"])
    summary: dict[str, Any] = {"title": name.title} | group.key
    summary |= {
        "subset": settings["subset"],
        "n": len(good),
        "failed": len(group.rows) - len(good),
    }
    summary["measure"] = next(iter(pc.unique(good["measure"].drop_null()).to_pylist()), OF_CURVE)
    values = {auc: _floats(good[auc]) for auc in AUCS}
    values["value"] = _floats(pc.coalesce(good["value"], good[OF_CURVE]))
    if group.key["objective"] == "insertion" and len(curved) == len(good):
        highest_nP, missed_P = highest(good)
        for j, budget in enumerate(BUDGETS):
            values[f"highest_{budget}"] = highest_nP[:, j]
            summary[f"missed_{budget}"] = int(missed_P[j])
    if not len(good):
        bounds = [f"{column}_{side}" for column in values for side in ("low", "high")]
        summary |= dict.fromkeys((*values, *MEANS, *bounds, "accuracy"), float("nan"))
        curves = {column: Band.nothing(len(grid_G)) for column in CURVES}
        return Group(summary=summary, name=name, fraction_G=grid_G, curves=curves)
    resample = {k: settings[k] for k in ("resamples", "seed", "confidence")}
    bounds = intervals(np.stack(list(values.values()), 1), **resample)
    for (column, values_n), low, high in zip(values.items(), *bounds, strict=True):
        summary |= {column: float(values_n.mean())}  # NaN of what the judge does not measure
        summary |= {f"{column}_low": float(low), f"{column}_high": float(high)}
    summary |= {column: _mean(good[column]) for column in MEANS}
    labelled = good.filter(pc.is_valid(good["label"]))
    summary["accuracy"] = _mean(pc.equal(labelled["label"], labelled["prediction"]))
    curves = {}
    for column in CURVES:
        if len(curved) < len(good):
            curves[column] = Band.nothing(len(grid_G))
            continue
        values_nG = on_grid(good, column, grid_G)
        low_G, high_G = intervals(values_nG, **resample)
        curves[column] = Band(mean_G=values_nG.mean(0), low_G=low_G, high_G=high_G)
    return Group(summary=summary, name=name, fraction_G=grid_G, curves=curves)


def _floats(values: pa.ChunkedArray) -> np.ndarray:
    """NaN for null."""
    return pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)


def _mean(values: pa.ChunkedArray) -> float:
    """NaN of nothing."""
    mean = pc.mean(values).as_py()
    return float("nan") if mean is None else float(mean)
