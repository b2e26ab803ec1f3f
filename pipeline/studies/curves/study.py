"""Curves as a study: what everything else takes of them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.rows import RunDir
from pipeline.statistics import LABELS, completed
from pipeline.studies import Chart, Findings, Score, Study
from pipeline.studies.curves.rows import CURVES
from pipeline.studies.curves.samples import samples
from pipeline.studies.curves.section import OBJECTIVES, QUANTITIES, section
from pipeline.studies.curves.statistics import Aggregate, aggregate
from pipeline.studies.curves.sums import AUCS, OF_CURVE
from pipeline.studies.curves.tables import every, text

TOLD = ("title", *LABELS, "objective", "fingerprint", "measure", "n")
"""What mean curves say of their group."""
KINDS = {"n": pa.int64(), "seeds": pa.int64()}


def findings(run: RunDir, settings: Mapping[str, Any]) -> Findings:
    """Mean curves and areas of every method."""
    found = aggregate(run, settings)
    return Findings(
        run=run,
        name="summary",
        summary=[group.summary for group in found.groups],
        table=text(found),
        tables=every(found),
        section=partial(section, run, found, settings),
        samples=partial(samples, run, found.names, settings.get("plugins", ())),
        charts=charts(found),
        numbers={
            f"{group.summary['objective']}/{group.name.title}/{auc}{side}": group.summary[
                auc + side
            ]
            for group in found.groups
            for auc in AUCS
            for side in ("", "_low", "_high")
        },
        files=files(found),
        aims={
            f"{group.summary['objective']}/{group.name.title}/{auc}": (
                "max" if group.summary["objective"] == "insertion" else "min"
            )
            for group in found.groups
            for auc in AUCS
        },
        scores=[_score(group.summary) for group in found.groups],
    )


def _score(summary: Mapping[str, Any]) -> Score:
    """What the judge measures: much of it by insertion, little by deletion."""
    measure = "" if summary["measure"] == OF_CURVE else f" {summary['measure']}"
    return Score(
        fingerprint=summary["fingerprint"],
        name=f"{summary['objective']}{measure or ' AUC'}",
        value=summary["value"],
        n=summary["n"],
        larger=summary["objective"] == "insertion",
    )


def files(found: Aggregate) -> dict[str, pa.Table | None]:
    """Mean curves, and what comparing methods gives; docs/statistics.md explains the columns."""
    compared = {name: _table(rows) for name, rows in vars(found.compared).items()}
    return {"curves": curves_table(found)} | compared


def curves_table(found: Aggregate) -> pa.Table:
    """A row for each group (those of pooled seeds too), subset, quantity and fraction; `seeds`: how
    many of one control, 1 for each of them."""
    tables = []
    pooled = {fingerprint for seeds in found.pools for fingerprint in seeds}
    for group in [*found.groups, *(group for pool in found.pools.values() for group in pool)]:
        summary = group.summary
        labels = {name: summary.get(name) for name in (*TOLD, "seeds")}
        if labels["seeds"] is None and summary["fingerprint"] in pooled:
            labels["seeds"] = 1
        subsets = {summary["subset"]: group.curves, **group.subsets}
        for subset, curves in subsets.items():
            for quantity, band in curves.items():
                said = labels | {"subset": subset, "quantity": quantity}
                constant = {
                    name: pa.repeat(
                        pa.scalar(value, KINDS.get(name, pa.string())), len(band.mean_G)
                    )
                    for name, value in said.items()
                }
                sides = {"mean": band.mean_G, "low": band.low_G, "high": band.high_G}
                tables.append(pa.table(constant | {"fraction": group.fraction_G} | sides))
    return pa.concat_tables(tables)


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table | None:
    return pa.Table.from_pylist(completed(rows)) if rows else None


def charts(found: Aggregate) -> list[Chart]:
    """Each objective's mean curves, of groups that have images."""
    return [
        Chart(
            name=objective,
            quantity=quantity,
            axis="fraction",
            x_G=found.groups[0].fraction_G,
            lines={group.name.title: group.curves[quantity] for group in chosen},
        )
        for objective in OBJECTIVES
        if (
            chosen := [
                group
                for group in found.groups
                if group.summary["objective"] == objective and group.summary["n"]
            ]
        )
        for quantity in QUANTITIES
    ]


STUDY = Study(kind=CURVES, aggregate=findings)
