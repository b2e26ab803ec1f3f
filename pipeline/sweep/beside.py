"""Cells side by side: a table with a row a cell, and maps over two swept options."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.report import Section, figures
from pipeline.report.tables import Table
from pipeline.report.text import number, rendered
from pipeline.studies import Score
from pipeline.sweep import named
from pipeline.sweep.cells import Swept

VALUES = 12
"""Of an option, up to which there is a map of it."""
PANELS = 24
COLUMNS = 3


@dataclass(frozen=True, kw_only=True)
class Line:
    """A cell with its scores, by what tables call them."""

    options: Mapping[str, str]
    scores: Mapping[str, Score]


def lines(cells: Sequence[Swept], scores: Sequence[Score]) -> list[Line]:
    """Cells whose rows are scored. A score is called by its name, and by its method where cells
    have several."""
    several = any(len(cell.fingerprints) > 1 for cell in cells)
    by_print: dict[str, list[Score]] = {}
    for score in scores:
        by_print.setdefault(score.fingerprint, []).append(score)
    found = []
    for cell in cells:
        mine = {
            f"{method} {score.name}" if several else score.name: score
            for method, fingerprint in cell.fingerprints.items()
            for score in by_print.get(fingerprint, ())
        }
        if mine:
            found.append(Line(options=cell.options, scores=mine))
    return found


def table(found: Sequence[Line]) -> Table:
    """A row a cell, the best of each column marked; `records` hold the numbers."""
    options, titles = _options(found), _titles(found)
    best = {title: _best([line.scores.get(title) for line in found]) for title in titles}
    rows, records = [], []
    for place, line in enumerate(found):
        told = [number(_value(line, title), ".4f") for title in titles]
        marks = [" *" if best[title] == place else "" for title in titles]
        images = max(score.n for score in line.scores.values())
        said = [line.options.get(option, "-") for option in options]
        cells = [cell + mark for cell, mark in zip(told, marks, strict=True)]
        rows.append([*said, *cells, f"{images}"])
        records.append(
            {option: line.options.get(option) for option in options}
            | {title: _value(line, title) for title in titles}
            | {"images": images}
        )
    heads = [*options, *titles, "images"]
    return Table(heads, rows, title="cells of the sweep; * the best of a column", records=records)


def labelled(summary: Sequence[Mapping[str, Any]], cells: Sequence[Swept]) -> list[dict[str, Any]]:
    """Rows of a summary with what was swept, as sweep.<option>; several values where cells share
    a row."""
    options = list(dict.fromkeys(option for cell in cells for option in cell.options))
    found = []
    for row in summary:
        mine = [c.options for c in cells if row["fingerprint"] in c.fingerprints.values()]
        said = {o: dict.fromkeys(one[o] for one in mine if o in one) for o in options}
        found.append(dict(row) | {f"sweep.{o}": ", ".join(v) or None for o, v in said.items()})
    return found


def section(found: Sequence[Line]) -> Section:
    """Table and maps for the report."""
    html = rendered(Path(__file__).with_name("section.html"), table=table(found), maps=_maps(found))
    return Section(html=html, models=[], datasets=[])


def _maps(found: Sequence[Line]) -> Markup | None:
    """Each score over two options, a panel for every combination of the others; None where there
    are no two options of a few values."""
    values = {
        option: list(
            dict.fromkeys(line.options[option] for line in found if option in line.options)
        )
        for option in _options(found)
    }
    some = [option for option, mine in values.items() if 1 < len(mine) <= VALUES]
    some.sort(key=lambda option: option == "methods")  # whose values are panels where others vary
    if len(some) < 2:
        return None
    down, across = some[:2]
    panels: dict[tuple[str, str], list[Line]] = {}
    for line in found:
        if {down, across} <= line.options.keys():
            rest = {o: v for o, v in line.options.items() if o in some[2:]}
            for title in line.scores:
                panels.setdefault((title, named(rest)), []).append(line)
    shown = list(panels.items())[:PANELS]
    columns = min(COLUMNS, len(shown))
    height = -(-len(shown) // columns)
    size = (figures.WIDTH, height * (1.2 + 0.45 * len(values[down])))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(height, columns, squeeze=False).ravel()
    for panel, ((title, rest), mine) in zip(axes, shown, strict=False):
        _map(panel, mine, title, (down, values[down]), (across, values[across]))
        panel.set_title(f"{title}\n{rest}" if rest else title, fontsize=9)
    for panel in axes[len(shown) :]:
        panel.set_axis_off()
    return figures.svg(figure, "sweep", "scores over two swept options")


def _map(
    panel: Axes,
    found: Sequence[Line],
    title: str,
    down: tuple[str, Sequence[str]],
    across: tuple[str, Sequence[str]],
) -> None:
    """A score over two options, the best cell framed."""
    place = [
        (down[1].index(line.options[down[0]]), across[1].index(line.options[across[0]]))
        for line in found
    ]
    score_YX = np.full((len(down[1]), len(across[1])), np.nan)
    for (y, x), line in zip(place, found, strict=True):
        score_YX[y, x] = _value(line, title)
    picture = panel.imshow(score_YX, cmap="viridis", aspect="auto")
    for (y, x), value in np.ndenumerate(score_YX):
        if not math.isnan(value):
            light = float(picture.norm(value)) > 0.6  # type: ignore[arg-type]
            colour = "black" if light else "white"
            panel.text(x, y, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=8)
    best = _best([line.scores.get(title) for line in found])
    if best is not None:
        y, x = place[best]
        frame = {"fill": False, "edgecolor": "#d23105", "linewidth": 2}
        panel.add_patch(Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, **frame))
    panel.set_xticks(range(len(across[1])), across[1], fontsize=8)
    panel.set_yticks(range(len(down[1])), down[1], fontsize=8)
    panel.set_xlabel(across[0], fontsize=8)
    panel.set_ylabel(down[0], fontsize=8)


def _best(scores: Sequence[Score | None]) -> int | None:
    """Which is best, the first of several; None of none."""
    known = [(i, s) for i, s in enumerate(scores) if s is not None and not math.isnan(s.value)]
    if not known:
        return None
    sign = 1 if known[0][1].larger else -1
    return max(known, key=lambda one: sign * one[1].value)[0]


def _value(line: Line, title: str) -> float:
    return line.scores[title].value if title in line.scores else float("nan")


def _options(found: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(option for line in found for option in line.options))


def _titles(found: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(title for line in found for title in line.scores))
