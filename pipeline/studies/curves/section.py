"""The report's section on curves: the verdict, means with intervals, tables, photographs."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.report import Section
from pipeline.report.gallery import Gallery
from pipeline.report.images import by_image
from pipeline.report.text import rendered
from pipeline.rows import RunDir
from pipeline.studies.curves.drawn import curves
from pipeline.studies.curves.statistics import Aggregate
from pipeline.studies.curves.summaries import Group
from pipeline.studies.curves.tables import areas, confidence, phases, sources
from pipeline.studies.curves.tiles import items
from pipeline.studies.curves.verdict import Verdict, verdicts
from pipeline.studies.names import HEADS

OBJECTIVES = {"insertion": "inserted", "deletion": "deleted"}
QUANTITIES = {"probability": "probability of the target", "top1": "target is top-1"}
AREA = "AUC probability"
"""Head of the column in which the best is bold."""


def section(run: RunDir, found: Aggregate, settings: Mapping[str, Any], gallery: int) -> Section:
    """Verdict, curves, areas and so many photographs, given jobs.aggregate's settings."""
    groups = found.groups
    summaries = [group.summary for group in groups]
    fixed = [c for c in HEADS if len({s.get(c) for s in summaries}) == 1 and summaries[0].get(c)]
    pictures = Gallery(run, found.names, settings.get("plugins", ()))
    shown = found.scan.whole(found.scan.first(gallery)).drop_columns(["heat"])
    said = verdicts(found.compared)
    html = rendered(
        Path(__file__).with_name("section.html"),
        images=found.scan.n_images,
        subset=summaries[0]["subset"],
        accuracy=_accuracy(groups),
        fixed=[f"{HEADS[column]} {summaries[0][column]}" for column in fixed],
        verdicts=said,
        area=AREA,
        areas=areas(summaries),
        marks=_marks(summaries, said),
        confidence=confidence(found),
        phases=phases(found),
        papers=found.papers,
        published=sources(summaries),
    )
    return Section(
        html=html,
        models=list(dict.fromkeys(group.name.model for group in groups)),
        datasets=list(dict.fromkeys(str(summary["dataset"]) for summary in summaries)),
        run=run,
        curves=curves(found),
        exhibits=pictures.exhibits(by_image(shown, gallery), items),
    )


def _accuracy(groups: list[Group]) -> list[str]:
    """Of each model on each data set, where labels are known."""
    found: dict[str, float] = {}
    several = len({(g.name.model, g.summary["dataset"]) for g in groups}) > 1
    for group in groups:
        if not math.isnan(group.summary["accuracy"]):
            where = f"{group.name.model} on {group.summary['dataset']}: " if several else ""
            found.setdefault(where, group.summary["accuracy"])
    return [f"{where}{100 * accuracy:.1f} %" for where, accuracy in found.items()]


def _marks(summaries: list[dict[str, Any]], said: list[Verdict]) -> list[str]:
    """For each line of the areas "best", "tie" or nothing."""
    marks = {(v.objective, f): mark for v in said for f, mark in v.marks.items()}
    return [marks.get((s["objective"], s["fingerprint"]), "") for s in summaries]
