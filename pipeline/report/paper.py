"""Mean curves as figures of a paper: a column or two wide, type of its size, no colour alone."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report import Curve, figures
from pipeline.report.tables import slug

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,  # conferences refuse Type 3
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "pixel-quorum",
}
SAID = {
    "probability": "probability of the target",
    "top1": "accuracy",
    "log_odds": "log-odds of the target",
}
MOVED = {"insertion": "inserted", "deletion": "deleted"}
CELL = ("dataset", "model", "curve_masking", "judge")
"""Labels of which each combination is a figure of its own."""
UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def drawn(curves: Sequence[Curve], single: float, double: float) -> Iterator[tuple[str, Figure]]:
    """Figures with their names: each objective in a column `single` inches wide, both beside each
    other in `double`."""
    cells: dict[tuple[str, ...], list[Curve]] = {}
    for curve in curves:
        cell = (*(curve.labels.get(c, "") for c in CELL), curve.quantity)
        cells.setdefault(cell, []).append(curve)
    several = len({cell[:-1] for cell in cells}) > 1
    names = list(dict.fromkeys(curve.name for curve in curves))
    looks = dict(zip(names, figures.styles(names), strict=True))
    for (*cell, quantity), mine in cells.items():
        where = f"{slug(' '.join(cell))}_" if several else ""
        by = {o: [c for c in mine if c.objective == o] for o in MOVED}
        there = {objective: found for objective, found in by.items() if found}
        for objective, found in there.items():
            one = {objective: found}
            yield f"{where}{objective}_{quantity}_single", _figure(one, looks, single)
        if len(there) > 1:
            yield f"{where}{quantity}_double", _figure(there, looks, double)


def files(figure: Figure, formats: Sequence[str], dpi: int) -> Iterator[tuple[str, bytes]]:
    """A figure by extension, the same bytes for the same figure."""
    for form in formats:
        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            figure.savefig(buffer, format=form, dpi=dpi, metadata=UNDATED[form])
        yield form, buffer.getvalue()


def _figure(by_objective: Mapping[str, Sequence[Curve]], looks: Mapping, width: float) -> Figure:
    with matplotlib.rc_context(STYLE):
        columns = len(by_objective)
        figure = Figure(figsize=(width, 0.72 * width / columns), layout="constrained")
        axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
        labels: dict[str, Artist] = {}
        for panel, (objective, curves) in zip(axes, by_objective.items(), strict=True):
            labels |= _panel(panel, objective, curves, looks)
        axes[0].set_ylabel(SAID[curves[0].quantity])
        across = max(1, min(len(labels), int(width * 14 / (max(map(len, labels)) + 6))))
        rows = -(-len(labels) // across)
        figure.set_figheight(figure.get_figheight() + 0.15 * rows)
        figure.legend(
            list(labels.values()),
            list(labels),
            loc="outside lower center",
            ncols=across,
            frameon=False,
        )
    return figure


def _panel(panel: Axes, objective: str, curves: Sequence[Curve], looks: Mapping) -> dict:
    """Lines by title."""
    found = {}
    for curve in curves:
        look, band = looks[curve.name] | {"markersize": 2.5}, curve.band
        (line,) = panel.plot(curve.x_G, band.mean_G, lw=1.1, **look)
        panel.fill_between(
            curve.x_G, band.low_G, band.high_G, color=look["color"], alpha=0.15, lw=0
        )
        found[curve.name.title] = line
    panel.set(xlabel=f"fraction of pixels {MOVED[objective]}", xlim=(0, 1), title=objective)
    panel.grid(alpha=0.25, lw=0.4)
    return found
