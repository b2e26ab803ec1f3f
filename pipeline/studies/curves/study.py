"""Curves as a study: what everything else takes of them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.rows import RunDir
from pipeline.studies import Chart, Findings, Study
from pipeline.studies.curves.rows import CURVES
from pipeline.studies.curves.section import OBJECTIVES, QUANTITIES, section
from pipeline.studies.curves.statistics import AUCS, Aggregate, aggregate
from pipeline.studies.curves.tables import every, text


def findings(run: RunDir, settings: Mapping[str, Any]) -> Findings:
    """Mean curves and areas of every method."""
    found = aggregate(run, settings)
    return Findings(
        run=run,
        name="summary",
        summary=[group.summary for group in found.groups],
        table=text(found),
        tables=every(found),
        section=partial(section, run, found, settings.get("plugins", ())),
        charts=charts(found),
        numbers={
            f"{group.summary['objective']}/{group.name.title}/{auc}{side}": group.summary[
                auc + side
            ]
            for group in found.groups
            for auc in AUCS
            for side in ("", "_low", "_high")
        },
    )


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
