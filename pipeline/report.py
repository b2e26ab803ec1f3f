"""One self-contained HTML page: curves with intervals, the table, photographs with orders."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pipeline.aggregate import Aggregate, Group
from pipeline.pictures import (
    Photographs,
    Tile,
    data_uri,
    exhibits,
    interval,
    n_images,
    number,
    ruled,
    svg,
)
from pipeline.results import Run
from pipeline.undesirable import report as undesirable
from pipeline.undesirable.aggregate import MaskAggregate

TEMPLATE = Path(__file__).with_name("report.html")
COLOURS = matplotlib.colormaps["tab10"].colors + matplotlib.colormaps["Dark2"].colors
HEAT = matplotlib.colormaps["turbo"]


def write(run: Run, found: Aggregate | None, masks: MaskAggregate | None, *, gallery: int) -> str:
    """Write <out>/report/index.html with a section for each kind of rows; returns its place."""
    environment = jinja2.Environment(autoescape=True)
    html = environment.from_string(TEMPLATE.read_text()).render(
        out=run.out,
        confidence=round(100 * (found or masks).settings["confidence"]),  # type: ignore[union-attr]
        curves=found and _section(run, found, gallery),
        masks=masks and undesirable.section(run, masks, gallery),
    )
    path = run.path("report", "index.html")
    run.write(path, html.encode())
    return path if run.is_local else f"{run.out.rstrip('/')}/report/index.html"


def tables(found: Aggregate | None, masks: MaskAggregate | None) -> str:
    """The summaries as text."""
    texts = [table(found)] if found else []
    return "\n\n".join(texts + ([undesirable.table(masks)] if masks else []))


def _section(run: Run, found: Aggregate, gallery: int) -> dict[str, Any]:
    groups = found.groups
    return {
        "figures": [_curves(groups, objective) for objective in ("insertion", "deletion")],
        "rows": [_cells(group) for group in groups],
        "exhibits": list(exhibits(run, found.rows, gallery, _draw)),
        "subset": found.settings["subset"],
        "images": n_images(found.rows),
        "accuracy": max((g.summary["accuracy"] for g in groups), default=math.nan, key=_finite),
    }


def table(found: Aggregate) -> str:
    """The summary as text: a line a method, both objectives beside each other."""
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for group in found.groups:
        s = group.summary
        key = tuple(s[k] for k in ("dataset", "model", "players", "masking", "curve_masking"))
        line = lines.setdefault(
            (*key, s["method"], s["fingerprint"]), {"forwards": s["evaluations"]}
        )
        line[s["objective"]] = interval(s, "auc_probability")
        line["images"] = f"{s['n']}" + (f" (+{s['failed']} failed)" if s["failed"] else "")
    heads = ["method", "insertion AUC", "deletion AUC", "forwards/image", "images"]
    cells = [
        [
            key[5],
            line.get("insertion", "-"),
            line.get("deletion", "-"),
            number(line["forwards"], ",.0f"),
            line["images"],
        ]
        for key, line in lines.items()
    ]
    return ruled(heads, cells)


def heat(order: list[int], flip: int | None, n_players: int) -> np.ndarray:
    """Heat of each player, 0 to 1, (N,): of K picks up to the flip the t-th gets K - t + 1, the
    rest 0, over the maximum (MoXI, Fig. 4). Without a flip every pick counts."""
    picks = order[: len(order) if flip is None else flip]
    heat_N = np.zeros(n_players)
    heat_N[picks] = np.arange(len(picks), 0, -1) / max(1, len(picks))
    return heat_N


def interaction_matrix(pairs: list[float], n_players: int, largest: float) -> Image.Image:
    """Symmetric matrix of pair interactions, `pairs` in the order of `torch.triu_indices`, as a
    picture of at least 176 pixels; -largest is blue, 0 white, largest red."""
    matrix_NN = np.zeros((n_players, n_players))
    one, other = np.triu_indices(n_players, 1)
    matrix_NN[one, other] = matrix_NN[other, one] = pairs
    colour_NNC = matplotlib.colormaps["RdBu_r"](0.5 + matrix_NN / largest / 2)[..., :3]
    side = -(-176 // n_players) * n_players
    picture = Image.fromarray((colour_NNC * 255).astype(np.uint8))
    return picture.resize((side, side), Image.Resampling.NEAREST)


def _heat_of(row: Mapping[str, Any]) -> np.ndarray:
    """Heat up to the flip; of a class-targeted order, what phase B hid."""
    details = json.loads(row["details"]) if row["details"] else {}
    if "phase_a" not in details:
        return heat(row["order"], row["flip"], row["n_players"])
    return heat(row["order"][details["phase_a"] :], None, row["n_players"])


def overlay(pixels_HWC: np.ndarray, heat_HW: np.ndarray) -> Image.Image:
    """Hot regions coloured by their heat over a dimmed grey photograph; `pixels_HWC` in 0..1."""
    grey_HWC = np.repeat(pixels_HWC.mean(2, keepdims=True), 3, 2) * 0.55
    colour_HWC = HEAT(0.1 + 0.85 * heat_HW)[..., :3]
    hot_HW1 = (heat_HW > 0)[..., None]
    mixed = np.where(hot_HW1, 0.55 * pixels_HWC + 0.45 * colour_HWC, grey_HWC)
    return Image.fromarray((mixed * 255).clip(0, 255).astype(np.uint8))


def _curves(groups: list[Group], objective: str) -> str:
    """Inline SVG of the mean probability and top-1 curves of one objective."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    methods = list(dict.fromkeys(group.summary["method"] for group in groups))
    verb = {"insertion": "inserted", "deletion": "deleted"}[objective]
    for panel, column, title in zip(
        panels,
        ("probability", "top1"),
        ("probability of the target", "target is top-1"),
        strict=True,
    ):
        for group in groups:
            if group.summary["objective"] != objective or not group.summary["n"]:
                continue
            curve = getattr(group, column)
            colour = COLOURS[methods.index(group.summary["method"]) % len(COLOURS)]
            label = group.summary["method"]
            panel.plot(group.fraction_G, curve.mean_G, color=colour, lw=1.8, label=label)
            panel.fill_between(
                group.fraction_G, curve.low_G, curve.high_G, color=colour, alpha=0.15, lw=0
            )
        panel.set(title=f"{objective}: {title}", xlabel=f"fraction of pixels {verb}")
        panel.set(xlim=(0, 1), ylim=(-0.02, 1.02))
        panel.grid(alpha=0.25)
    panels[-1].legend(loc="best", fontsize=8, frameon=False)
    return svg(figure, objective)


def _draw(records: list[dict[str, Any]], photographs: Photographs) -> Iterable[Tile]:
    """An order over the photograph for each row, and a matrix where it has pairs."""
    for row in sorted(records, key=lambda r: (r["objective"] != "insertion", r["method"])):
        regions_HW = photographs.players(row)(photographs.image_CHW).numpy()
        title = f"{row['method']}, {row['objective']}"
        picture = data_uri(overlay(photographs.pixels_HWC, _heat_of(row)[regions_HW]))
        yield Tile(picture=picture, title=title, caption=_caption(row))
        if row["pairs"] is not None:
            largest = max(map(abs, row["pairs"])) or 1.0
            matrix = data_uri(interaction_matrix(row["pairs"], row["n_players"], largest))
            caption = f"interactions of all pairs, blue -{largest:.2g} to red {largest:.2g}"
            yield Tile(picture=matrix, title=title, caption=caption)


def _caption(row: Mapping[str, Any]) -> str:
    details = json.loads(row["details"]) if row["details"] else {}
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


def _cells(group: Group) -> dict[str, str]:
    s = group.summary
    return {
        "method": s["method"],
        "objective": s["objective"],
        "players": s["players"],
        "masking": s["masking"],
        "judged": s["curve_masking"],
        "auc": interval(s, "auc_probability"),
        "top1": interval(s, "auc_top1"),
        "flip": number(s["flip"], ".1f"),
        "forwards": number(s["evaluations"], ",.0f"),
        "seconds": number(s["seconds"], ".2f"),
        "n": f"{s['n']}" + (f" (+{s['failed']} failed)" if s["failed"] else ""),
    }


def _finite(value: float) -> float:
    return -1.0 if math.isnan(value) else value
