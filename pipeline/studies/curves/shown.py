"""One image's orders as a picture: each over the photograph, and their curves."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.report import Exhibit, Name, figures
from pipeline.report.gallery import Photographs, Record
from pipeline.studies.curves.tiles import caption, heat_of, in_order

COLUMNS = 4
SIDE = 2.4
"""Inches of a picture."""


def pictures(records: Sequence[Record], photographs: Photographs) -> Iterable[Mapping[str, Any]]:
    """The photograph, then each order over it."""
    said = ", ".join(f"{word} {name}" for word, name in photographs.classes(records[0]).items())
    yield {"title": records[0]["key"], "caption": said, "picture_HWC": photographs.pixels_HWC}
    for row in in_order(records):
        heat_HW = heat_of(row)[photographs.regions(row)]
        yield {
            "title": f"{row['title']}, {row['objective']}",
            "caption": caption(row),
            "picture_HWC": overlay(photographs.pixels_HWC, heat_HW),
            "row": row,
        }


def overlay(pixels_HWC: np.ndarray, heat_HW: np.ndarray) -> np.ndarray:
    """Hot regions coloured by their heat over a dimmed grey photograph; all in 0..1."""
    grey_HWC = np.repeat(pixels_HWC.mean(2, keepdims=True), 3, 2) * 0.45
    colour_HWC = 0.45 * pixels_HWC + 0.55 * figures.heat(heat_HW)
    return np.where((heat_HW > 0)[..., None], colour_HWC, grey_HWC)


def figure(exhibit: Exhibit) -> Figure:
    """All views of an image, and the curves that it has."""
    items = [item for view in exhibit.views for item in view.items]
    rows = [item["row"] for item in items if "row" in item and item["row"]["probability"]]
    objectives = list(dict.fromkeys(row["objective"] for row in rows))
    lines = -(-len(items) // COLUMNS)
    height = (SIDE + 0.7) * lines + (2.6 if objectives else 0)
    whole = Figure(figsize=(COLUMNS * SIDE, height), layout="constrained")
    top: Any = whole
    below: Any = None
    if objectives:
        parts: Any = whole.subfigures(2, 1, height_ratios=[height - 2.6, 2.6])
        top, below = parts
    panels = top.subplots(lines, COLUMNS, squeeze=False).flat
    for panel in panels[len(items) :]:
        panel.axis("off")
    for panel, item in zip(panels, items, strict=False):
        panel.imshow(item["picture_HWC"])
        panel.set_title(f"{item['title']}\n{item['caption']}", fontsize=7, loc="left", wrap=True)
        panel.axis("off")
    if below is not None:
        _curves(below, rows, objectives)
    return whole


def _curves(below: Any, rows: Sequence[Record], objectives: Sequence[str]) -> None:
    titles = list(dict.fromkeys(row["title"] for row in rows))
    looks = figures.styles([Name(method=title, variant="", model="") for title in titles])
    by_title = dict(zip(titles, looks, strict=True))
    panels = below.subplots(1, len(objectives), squeeze=False, sharey=True)[0]
    for panel, objective in zip(panels, objectives, strict=True):
        for row in rows:
            if row["objective"] == objective:
                look = by_title[row["title"]]
                panel.plot(row["fraction"], row["probability"], label=row["title"], **look)
        panel.set(title=objective, xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="fraction of pixels")
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    panels[0].set_ylabel("probability of the target")
