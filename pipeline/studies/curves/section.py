"""The report's section on curves: means with intervals, the table, orders over photographs."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from pipeline.report import Section, figures
from pipeline.report.gallery import Gallery, Photographs, Record, Tile, data_uri
from pipeline.report.text import counted, interval, number, rendered, ruled
from pipeline.rows import RunDir
from pipeline.statistics import n_images
from pipeline.studies.curves.statistics import Aggregate, Group
from pipeline.studies.names import HEADS, varied

OBJECTIVES = {"insertion": "inserted", "deletion": "deleted"}
QUANTITIES = {"probability": "probability of the target", "top1": "target is top-1"}


def section(run: RunDir, found: Aggregate, plugins: Sequence[str], gallery: int) -> Section:
    """Curves, areas and so many photographs; `plugins` as of settings."""
    groups = found.groups
    summaries = [group.summary for group in groups]
    columns = varied(summaries)
    fixed = [c for c in HEADS if len({s.get(c) for s in summaries}) == 1 and summaries[0].get(c)]
    pictures = Gallery(run, found.names, plugins)
    html = rendered(
        Path(__file__).with_name("section.html"),
        images=n_images(found.rows),
        subset=summaries[0]["subset"],
        accuracy=_accuracy(groups),
        fixed=[f"{HEADS[column]} {summaries[0][column]}" for column in fixed],
        figures=[_curves(groups, objective) for objective in OBJECTIVES],
        heads=[
            *("method", *(HEADS[column] for column in columns), "objective", "AUC probability"),
            *("AUC top-1", "players to flip", "forwards", "device s", "images"),
        ],
        rows=[_cells(group.summary, columns) for group in groups],
        exhibits=list(pictures.exhibits(found.rows, gallery, _draw)),
    )
    return Section(
        html=html,
        models=list(dict.fromkeys(group.name.model for group in groups)),
        datasets=list(dict.fromkeys(str(summary["dataset"]) for summary in summaries)),
    )


def table(found: Aggregate) -> str:
    """The summary as text: a line a method, both objectives beside each other."""
    lines: dict[str, dict[str, Any]] = {}
    for group in found.groups:
        s = group.summary
        line = lines.setdefault(s["fingerprint"], {"forwards": s["evaluations"]})
        line[s["objective"]] = interval(s, "auc_probability")
        line["images"] = counted(s)
    heads = ["method", "insertion AUC", "deletion AUC", "forwards/image", "images"]
    cells = [
        [
            found.names[fingerprint].title,
            line.get("insertion", "-"),
            line.get("deletion", "-"),
            number(line["forwards"], ",.0f"),
            line["images"],
        ]
        for fingerprint, line in lines.items()
    ]
    return ruled(heads, cells)


def heat(order: list[int], flip: int | None, n_players: int) -> np.ndarray:
    """Heat of each player, 0 to 1, (N,): of K picks up to the flip the t-th gets K - t + 1, the
    rest 0, over the maximum (MoXI, Fig. 4). Without a flip every pick counts."""
    picks = order[: len(order) if flip is None else flip]
    heat_N = np.zeros(n_players)
    heat_N[picks] = np.arange(len(picks), 0, -1) / max(1, len(picks))
    return heat_N


def overlay(pixels_HWC: np.ndarray, heat_HW: np.ndarray) -> np.ndarray:
    """Hot regions coloured by their heat over a dimmed grey photograph; all in 0..1."""
    grey_HWC = np.repeat(pixels_HWC.mean(2, keepdims=True), 3, 2) * 0.55
    colour_HWC = figures.heat(0.1 + 0.85 * heat_HW)
    return np.where((heat_HW > 0)[..., None], 0.55 * pixels_HWC + 0.45 * colour_HWC, grey_HWC)


def interaction_matrix(pairs: list[float], n_players: int, largest: float) -> np.ndarray:
    """Symmetric matrix of pair interactions, `pairs` in the order of `torch.triu_indices`, as a
    picture of at least 176 pixels; -largest is blue, 0 white, largest red."""
    matrix_NN = np.zeros((n_players, n_players))
    one, other = np.triu_indices(n_players, 1)
    matrix_NN[one, other] = matrix_NN[other, one] = pairs
    scale = -(-176 // n_players)
    return figures.signed(matrix_NN / largest).repeat(scale, 0).repeat(scale, 1)


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


def _draw(records: list[Record], photographs: Photographs) -> Iterable[Tile]:
    """An order over the photograph for each row, and a matrix where it has pairs."""
    for row in sorted(records, key=lambda r: (r["objective"] != "insertion", r["title"])):
        heat_N = _heat_of(row)
        title = f"{row['title']}, {row['objective']}"
        picture = data_uri(overlay(photographs.pixels_HWC, heat_N[photographs.regions(row)]))
        yield Tile(picture=picture, title=title, caption=_caption(row))
        if row["pairs"] is not None:
            largest = max(map(abs, row["pairs"])) or 1.0
            matrix = data_uri(interaction_matrix(row["pairs"], row["n_players"], largest))
            caption = f"interactions of all pairs, blue -{largest:.2g} to red {largest:.2g}"
            yield Tile(picture=matrix, title=title, caption=caption)


def _details(row: Record) -> dict[str, Any]:
    return json.loads(row["details"]) if row["details"] else {}


def _heat_of(row: Record) -> np.ndarray:
    """Heat up to the flip; of a class-targeted order, what phase B hid."""
    details = _details(row)
    if "phase_a" not in details:
        return heat(row["order"], row["flip"], row["n_players"])
    return heat(row["order"][details["phase_a"] :], None, row["n_players"])


def _caption(row: Record) -> str:
    details = _details(row)
    if "phase_a" in details:
        hidden = f"{details['phase_a']} hidden in phase A"
        if not details["reached"]:
            return f"the class never becomes the prediction ({hidden})"
        return f"{details['phase_b']} players of phase B carry the class ({hidden})"
    auc = f"AUC {row['auc_probability']:.3f}"
    if row["flip"] is None:
        return f"never flips, {auc}"
    share = row["fraction"][row["flip"]]
    return f"flips at {row['flip']} of {row['n_players']} ({100 * share:.0f} %), {auc}"


def _cells(s: Mapping[str, Any], columns: list[str]) -> list[str]:
    own = {"curve_masking": " (own)"} if s.get("masking") == s.get("curve_masking") else {}
    return [
        s["title"],
        *(f"{s[column]}{own.get(column, '')}" for column in columns),
        s["objective"],
        interval(s, "auc_probability"),
        interval(s, "auc_top1"),
        number(s["flip"], ".1f"),
        number(s["evaluations"], ",.0f"),
        number(s["seconds"], ".2f"),
        counted(s),
    ]
