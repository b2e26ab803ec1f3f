"""The report's section on undesirable pixels: phi against controls, masks over photographs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from torch.nn.functional import adaptive_avg_pool2d

from pipeline.report import Section, coded, figures
from pipeline.report.gallery import Gallery, Photographs, Record
from pipeline.report.images import by_image
from pipeline.report.tables import Table
from pipeline.report.text import counted, interval, rendered
from pipeline.rows import RunDir
from pipeline.statistics import n_images
from pipeline.studies.masks.controls import CONTROLS, SAME_AREA
from pipeline.studies.masks.rows import THRESHOLD, THRESHOLDS
from pipeline.studies.masks.statistics import CONFIDENCE, MaskAggregate, MaskGroup
from pipeline.studies.names import HEADS, varied

Columns = dict[str, tuple[str, str]]
"""Column of the summary and its format, by head."""

RESULTS: Columns = {
    "phi": ("phi", ".1f"),
    "as printed": ("phi_printed", ".1f"),
    "median": ("phi_median", ".1f"),
    "ratio of sums": ("phi_ratio", ".1f"),
    "undesirable": ("undesirable", ".4f"),
}
CHANGES: Columns = {
    "probability before": ("probability_before", ".3f"),
    "probability after": ("probability_after", ".3f"),
    "drift of the target": ("target_drift", ".3f"),
    "drift of the others": ("others_drift", ".3f"),
    "per gain: of the target": ("target_drift_per_gain", ".3f"),
    "per gain: of the others": ("others_drift_per_gain", ".3f"),
    **{f"top-{k} {w}": (f"top{k}_{w}", ".2f") for k in (1, 5) for w in ("before", "after")},
}
LIKENESS: Columns = {"IoU of trials": ("iou", ".2f"), "correlation": ("pearson", ".2f")}


CELLS = 56
"""Of a mask that the page draws, a side: masks are smooth."""


def section(
    run: RunDir, found: MaskAggregate, settings: Mapping[str, Any], gallery: int
) -> Section:
    """Tables, a figure and so many photographs, given jobs.aggregate's settings."""
    groups = [group for group in found.groups if group.summary["n"]]
    summaries = [group.summary for group in groups]
    columns = varied([group.summary for group in found.groups])
    several = any(s["trials"] > 1 for s in summaries)
    pictures = Gallery(run, found.names, settings.get("plugins", ()))
    subset = found.groups[0].summary["subset"]
    html = rendered(
        Path(__file__).with_name("section.html"),
        images=n_images(found.rows),
        subset=subset,
        figure=_figure(groups),
        results=_results(summaries, columns),
        changes=_changes(summaries, several),
        by_confidence=_by_confidence(summaries),
    )
    return Section(
        html=html,
        models=list(dict.fromkeys(group.name.model for group in found.groups)),
        datasets=list(dict.fromkeys(str(group.summary["dataset"]) for group in found.groups)),
        run=run,
        exhibits=pictures.exhibits(by_image(found.rows, gallery), _items),
    )


def table(found: MaskAggregate) -> Table:
    """The summary: a line a method."""
    heads = ["method", "phi", "best control of equal area", "undesirable", "images"]
    cells = []
    for group in found.groups:
        s, images = group.summary, counted(group.summary, "rows ")
        if not s["n"]:
            cells.append([s["title"], "-", "-", "-", images])
            continue
        best = max(
            (f"phi_{name}" for name in SAME_AREA),
            key=lambda name: np.nan_to_num(s[name], nan=-1e9),
        )
        cells.append(
            [
                s["title"],
                interval(s, "phi", ".1f"),
                interval(s, best, ".1f"),
                interval(s, "undesirable", ".4f"),
                images,
            ]
        )
    return Table(heads, cells)


def _items(records: list[Record], photographs: Photographs) -> Iterable[Mapping[str, Any]]:
    """The first trial of each method: how much of each cell its mask blurs."""
    for row in records:
        if row["trial"]:
            continue
        method = photographs.method(row)
        mask_c = torch.from_numpy(np.asarray(row["mask"], dtype=np.float32))
        mask_Bcc = mask_c.view(1, method.cells, method.cells)
        hw = (photographs.pixels_HWC.shape[0], photographs.pixels_HWC.shape[1])
        blurred_BHW = 1 - method.enlarge(mask_Bcc, hw)
        size = (min(CELLS, hw[0]), min(CELLS, hw[1]))
        then = photographs.class_name(row["prediction_after"])
        turned = "" if row["prediction_after"] == row["prediction"] else f", now predicted {then}"
        caption = (
            f"probability {row['probability_before']:.3f} to {row['probability_after']:.3f}"
            f"{turned}; phi {row['phi']:.0f} %; {100 * row['undesirable']:.1f} % of pixels"
        )
        yield {
            **{"title": row["title"], "method": row["method"], "objective": "mask"},
            **{"caption": caption, "area": None, "threshold": THRESHOLD},
            "blur": coded.levels(adaptive_avg_pool2d(blurred_BHW, size)[0].numpy()),
        }


def _figure(groups: list[MaskGroup]) -> Markup:
    """phi of masks and controls, and the share of undesirable pixels over thresholds."""
    titles = ["phi: residual probability recovered, %", "share of pixels blurred more than"]
    figure, (left, right) = figures.panels(titles)
    names = ["phi", *(f"phi_{name}" for name in CONTROLS)]
    looks = figures.styles([group.name for group in groups])
    step = 0.8 / max(1, len(groups))
    for i, (group, look) in enumerate(zip(groups, looks, strict=True)):
        s, y = group.summary, np.arange(len(names)) + step * i
        middle = np.array([s[name] for name in names])
        bounds = np.array([[s[f"{name}_{side}"] for name in names] for side in ("low", "high")])
        mark = {"color": look["color"], "fmt": look["marker"] or "o", "ms": 4}
        left.errorbar(middle, y, xerr=np.abs(bounds - middle), **mark)
        figures.band(right, THRESHOLDS, group.fractions, look, group.name.title)
    left.set_yticks(
        np.arange(len(names)) + step * (len(groups) - 1) / 2,
        ["mask", *(name.replace("_", " ") for name in CONTROLS)],
    )
    left.invert_yaxis()
    left.set_xscale("symlog", linthresh=100)
    low, ticks = min(left.get_xlim()[0], -10), [-10000, -1000, -100, -50, 0, 50, 100]
    left.set_xticks(ticks, [str(tick) for tick in ticks])
    left.set_xlim(low, 105)  # ticks widen limits
    left.axvline(0, color="0.6", lw=0.8)
    right.axvline(THRESHOLD, color="0.6", lw=0.8)
    right.set(xlabel="threshold on 1 - M'", ylim=(0, None))
    figures.legend(figure, right)
    return figures.svg(figure, "undesirable", "phi of masks and controls; shares of blurred pixels")


def _results(summaries: list[dict[str, Any]], columns: list[str]) -> dict[str, Any]:
    more = ["better, worse than no mask", "converged", "1 - p < 0.0001", "p (1 - p) < 0.001"]
    heads = [HEADS[column] for column in columns]
    return {
        "heads": ["method", *heads, *RESULTS, *more, "device s", "images"],
        "rows": [
            [
                s["title"],
                *(s[column] for column in columns),
                *_intervals(s, RESULTS),
                f"{100 * s['improved']:.0f} %, {100 * s['worse']:.0f} %",
                f"{100 * s['converged']:.0f} %",
                s["saturated"],
                s["flat"],
                f"{s['seconds']:.1f}",
                counted(s, "rows "),
            ]
            for s in summaries
        ],
    }


def _changes(summaries: list[dict[str, Any]], several: bool) -> dict[str, Any]:
    likeness = {head: column for head, column in LIKENESS.items() if several}
    return {
        "heads": ["method", *CHANGES, *(h for head in likeness for h in (head, "images"))],
        "rows": [
            [
                s["title"],
                *_intervals(s, CHANGES),
                *(
                    cell
                    for name, form in likeness.values()
                    for cell in (interval(s, name, form), s[f"n_{name}"])
                ),
            ]
            for s in summaries
        ],
    }


def _by_confidence(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "heads": ["method", *(f"{low} to {high} %" for low, high in CONFIDENCE)],
        "rows": [
            [
                s["title"],
                *(
                    f"{interval(s, f'phi_{low}_{high}', '.1f')} (n = {s[f'n_{low}_{high}']})"
                    for low, high in CONFIDENCE
                ),
            ]
            for s in summaries
        ],
    }


def _intervals(summary: Mapping[str, Any], columns: Columns) -> list[str]:
    return [interval(summary, name, form) for name, form in columns.values()]
