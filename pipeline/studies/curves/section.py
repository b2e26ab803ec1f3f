"""The report's section on curves: means with intervals, tables, photographs."""

import math
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from pipeline.report import Section, figures
from pipeline.report.gallery import Gallery
from pipeline.report.text import rendered
from pipeline.rows import RunDir
from pipeline.studies.curves.statistics import Aggregate
from pipeline.studies.curves.summaries import Group
from pipeline.studies.curves.tables import areas, confidence, sources
from pipeline.studies.curves.tiles import tiles
from pipeline.studies.names import HEADS

OBJECTIVES = {"insertion": "inserted", "deletion": "deleted"}
QUANTITIES = {"probability": "probability of the target", "top1": "target is top-1"}


def section(run: RunDir, found: Aggregate, plugins: Sequence[str], gallery: int) -> Section:
    """Curves, areas and so many photographs; `plugins` as of settings."""
    groups = found.groups
    summaries = [group.summary for group in groups]
    fixed = [c for c in HEADS if len({s.get(c) for s in summaries}) == 1 and summaries[0].get(c)]
    shown = found.scan.whole(found.scan.first(gallery))
    pictures = Gallery(run, found.names, plugins)
    html = rendered(
        Path(__file__).with_name("section.html"),
        images=found.scan.n_images,
        subset=summaries[0]["subset"],
        accuracy=_accuracy(groups),
        fixed=[f"{HEADS[column]} {summaries[0][column]}" for column in fixed],
        figures=[_curves(groups, objective) for objective in OBJECTIVES],
        areas=areas(summaries),
        confidence=confidence(found),
        papers=found.papers,
        published=sources(summaries),
        exhibits=list(pictures.exhibits(shown, gallery, tiles)),
    )
    return Section(
        html=html,
        models=list(dict.fromkeys(group.name.model for group in groups)),
        datasets=list(dict.fromkeys(str(summary["dataset"]) for summary in summaries)),
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


def _curves(groups: list[Group], objective: str) -> Markup:
    """Inline SVG of the mean curves of one objective."""
    titles = [f"{objective}: {said}" for said in QUANTITIES.values()]
    figure, panels = figures.panels(titles, share=True)
    looks = figures.styles([group.name for group in groups])
    for panel, quantity in zip(panels, QUANTITIES, strict=True):
        for group, look in zip(groups, looks, strict=True):
            if group.summary["objective"] == objective and group.summary["n"]:
                band = group.curves[quantity]
                figures.band(panel, group.fraction_G, band, look, group.name.title)
        panel.set(xlabel=f"fraction of pixels {OBJECTIVES[objective]}")
        panel.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    figures.legend(figure, panels[0])
    return figures.svg(figure, objective)
