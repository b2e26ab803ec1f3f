"""Plots for the page: one look for a group in every plot, legends beside the axes, inline SVG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report import Name
from pipeline.statistics import Band

COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5539"),
    *("#4b4b4b", "#8f6fc2", "#a3a500"),
)
"""Okabe and Ito's, told apart by the colour-blind, and a few more."""
HEAT = "viridis"
"""Perceptually even, and told apart by the colour-blind."""
SIGNED = "RdBu_r"
"""Of -1 (blue) to 0 (white) to 1 (red)."""
DASHES = ("-", "--", ":", "-.")
MARKERS = ("", "o", "s", "^", "D", "v", "P", "X")
WIDTH = 9.5
"""Inches."""


def styles(names: Sequence[Name]) -> list[dict[str, Any]]:
    """Looks of groups: methods differ by colour, variants by dashes and marker."""
    methods = list(dict.fromkeys(name.method for name in names))
    variants = list(dict.fromkeys(name.variant for name in names))
    looks = []
    for name in names:
        marker, dash = divmod(variants.index(name.variant), len(DASHES))
        looks.append(
            {
                "color": COLOURS[methods.index(name.method) % len(COLOURS)],
                "linestyle": DASHES[dash],
                "marker": MARKERS[marker % len(MARKERS)],
                "markevery": 0.1,
                "markersize": 4,
            }
        )
    return looks


def panels(titles: Sequence[str], *, share: bool = False) -> tuple[Figure, Sequence[Axes]]:
    """A figure of axes side by side, each with its title."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    (axes,) = figure.subplots(1, len(titles), sharex=share, sharey=share, squeeze=False)
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(title)
        panel.grid(alpha=0.25)
    return figure, axes


def band(panel: Axes, x_G: Any, found: Band, look: Mapping[str, Any], label: str) -> None:
    """A mean over `x_G` and its interval."""
    panel.plot(x_G, found.mean_G, lw=1.8, label=label, **look)
    panel.fill_between(x_G, found.low_G, found.high_G, color=look["color"], alpha=0.15, lw=0)


def legend(figure: Figure, panel: Axes) -> None:
    """What the panel shows, below all panels: never over a curve, whatever its length."""
    handles, labels = panel.get_legend_handles_labels()
    if not labels:
        return
    columns = max(1, min(len(labels), int(130 / (max(map(len, labels)) + 8))))
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * rows)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )


def svg(figure: Figure, salt: str, title: str) -> Markup:
    """Inline SVG, the same for the same figure; `salt` tells its ids from other figures', `title`
    is read to those who do not see it."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    named = f'<svg role="img" aria-label="{escape(title)}" '
    return Markup(named + text[text.index("<svg") + 5 :])


def heat(values: np.ndarray) -> np.ndarray:
    """Colours of 0 to 1, values (...) to (..., 3)."""
    return matplotlib.colormaps[HEAT](values)[..., :3]
