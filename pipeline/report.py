"""One self-contained HTML page: curves with intervals, the table, photographs with orders."""

import base64
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pyarrow.compute as pc
import torch
from matplotlib.figure import Figure
from PIL import Image

from pipeline import UsageError, config
from pipeline.aggregate import Aggregate, Group
from pipeline.data.images import decode
from pipeline.models import transform
from pipeline.players import Players
from pipeline.results import Run

TEMPLATE = Path(__file__).with_name("report.html")
COLOURS = matplotlib.colormaps["tab10"].colors + matplotlib.colormaps["Dark2"].colors
HEAT = matplotlib.colormaps["turbo"]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of the gallery, as a data URI, with its caption."""

    picture: str
    title: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One image: the photograph and a tile for each method and objective, or why there are none."""

    key: str
    said: str
    photograph: str | None
    tiles: list[Tile]
    errors: list[str]


def write(run: Run, found: Aggregate, *, gallery: int) -> str:
    """Write <out>/report/index.html; returns its place."""
    environment = jinja2.Environment(autoescape=True)
    groups = found.groups
    html = environment.from_string(TEMPLATE.read_text()).render(
        out=run.out,
        figures=[_curves(groups, objective) for objective in ("insertion", "deletion")],
        rows=[_cells(group) for group in groups],
        exhibits=list(_exhibits(run, found, gallery)),
        confidence=round(100 * found.settings["confidence"]),
        subset=found.settings["subset"],
        images=len(set(zip(*(found.rows[c].to_pylist() for c in ("shard", "key")), strict=True))),
        accuracy=max((g.summary["accuracy"] for g in groups), default=math.nan, key=_finite),
    )
    path = run.path("report", "index.html")
    run.write(path, html.encode())
    return path if run.is_local else f"{run.out.rstrip('/')}/report/index.html"


def table(found: Aggregate) -> str:
    """The summary as text: a line a method, both objectives beside each other."""
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for group in found.groups:
        s = group.summary
        key = tuple(s[k] for k in ("dataset", "model", "players", "masking", "curve_masking"))
        line = lines.setdefault(
            (*key, s["method"], s["fingerprint"]), {"forwards": s["evaluations"]}
        )
        line[s["objective"]] = _interval(s, "auc_probability")
        line["images"] = f"{s['n']}" + (f" (+{s['failed']} failed)" if s["failed"] else "")
    heads = ["method", "insertion AUC", "deletion AUC", "forwards/image", "images"]
    cells = [
        [
            key[5],
            line.get("insertion", "-"),
            line.get("deletion", "-"),
            _number(line["forwards"], ",.0f"),
            line["images"],
        ]
        for key, line in lines.items()
    ]
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(heads))]
    ruled = [heads, ["-" * w for w in widths], *cells]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in ruled
    )


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
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": objective}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _exhibits(run: Run, found: Aggregate, limit: int) -> Iterable[Exhibit]:
    """The first images of the run, with the pictures that their rows allow."""
    made = {p: m for m in run.metadata() for p in m["fingerprints"].values()}
    rows = found.rows
    pairs = dict.fromkeys(zip(rows["shard"].to_pylist(), rows["key"].to_pylist(), strict=True))
    readers: dict[str, _Photographs] = {}
    for shard, key in sorted(pairs)[:limit]:
        chosen = pc.and_(pc.equal(rows["shard"], shard), pc.equal(rows["key"], key))
        records = rows.filter(chosen).to_pylist()
        records.sort(key=lambda r: (r["objective"] != "insertion", r["method"]))
        provenance = made[records[0]["fingerprint"]]
        name = records[0]["dataset"]
        if name not in readers:
            readers[name] = _Photographs(provenance)
        yield _exhibit(records, readers[name])


def _exhibit(records: list[dict[str, Any]], photographs: "_Photographs") -> Exhibit:
    first = next((r for r in records if r["status"] == "ok"), records[0])
    errors = sorted({f"{r['method']}: {r['error']}" for r in records if r["status"] != "ok"})
    try:
        image_CHW, pixels_HWC = photographs.read(first["shard"], first["key"])
    except (ValueError, OSError, KeyError) as error:
        reason = f"photograph not shown: {error}"
        return Exhibit(
            key=first["key"], said="", photograph=None, tiles=[], errors=[*errors, reason]
        )
    tiles = []
    for row in records:
        if row["status"] != "ok":
            continue
        regions_HW = photographs.players(row)(image_CHW).numpy()
        title = f"{row['method']}, {row['objective']}"
        picture = _data_uri(overlay(pixels_HWC, _heat_of(row)[regions_HW]))
        tiles.append(Tile(picture=picture, title=title, caption=_caption(row)))
        if row["pairs"] is not None:
            largest = max(map(abs, row["pairs"])) or 1.0
            matrix = _data_uri(interaction_matrix(row["pairs"], row["n_players"], largest))
            caption = f"interactions of all pairs, blue -{largest:.2g} to red {largest:.2g}"
            tiles.append(Tile(picture=matrix, title=title, caption=caption))
    said = ""
    if first["prediction"] is not None:
        names = photographs.class_name
        said = f"predicted {names(first['prediction'])}, explained {names(first['target'])}"
        if first["label"] is not None:
            said += f", label {names(first['label'])}"
    picture = _data_uri(Image.fromarray((pixels_HWC * 255).astype(np.uint8)))
    return Exhibit(key=first["key"], said=said, photograph=picture, tiles=tiles, errors=errors)


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


class _Photographs:
    """Images of a data set as the model saw them, found again through what the rows' files say."""

    def __init__(self, provenance: Mapping[str, Any]):
        self.provenance = provenance
        self._players: dict[str, Players] = {}
        self._refs: dict[tuple[str, str], Any] = {}
        self._error: str | None = None
        self._names = None
        preprocessing = provenance["preprocessing"]
        self.transform = transform(preprocessing)
        self.mean, self.std = (np.array(preprocessing[k]) for k in ("mean", "std"))
        self.data = config.dataset(provenance["config"])
        try:
            self._refs = {(ref.shard, ref.key): ref for ref in self.data.index()}
            self._names = self.data.names()
        except (UsageError, OSError) as error:
            self._error = str(error)

    def read(self, shard: str, key: str) -> tuple[torch.Tensor, np.ndarray]:
        """Normalised (C, H, W) and plain pixels (H, W, C) in 0..1; ValueError says why not."""
        if self._error:
            raise ValueError(self._error)
        sample = self.data.read(self._refs[shard, key])
        image_CHW = self.transform(decode(sample.encoded, exif=self.data.exif))
        pixels_HWC = image_CHW.permute(1, 2, 0).numpy() * self.std + self.mean
        return image_CHW, pixels_HWC.clip(0, 1)

    def players(self, row: Mapping[str, Any]) -> Players:
        """The players object that the rows were made with."""
        name = row["players"]
        if name not in self._players:
            self._players[name] = config.component(self.provenance["config"]["players"])
        return self._players[name]

    def class_name(self, index: int) -> str:
        """Name and index of a class."""
        if self._names is None or index >= len(self._names):
            return f"class {index}"
        return f"{self._names[index]} ({index})"


def _cells(group: Group) -> dict[str, str]:
    s = group.summary
    return {
        "method": s["method"],
        "objective": s["objective"],
        "players": s["players"],
        "masking": s["masking"],
        "judged": s["curve_masking"],
        "auc": _interval(s, "auc_probability"),
        "top1": _interval(s, "auc_top1"),
        "flip": _number(s["flip"], ".1f"),
        "forwards": _number(s["evaluations"], ",.0f"),
        "seconds": _number(s["seconds"], ".2f"),
        "n": f"{s['n']}" + (f" (+{s['failed']} failed)" if s["failed"] else ""),
    }


def _interval(summary: Mapping[str, Any], name: str) -> str:
    if math.isnan(summary[name]):
        return "-"
    return f"{summary[name]:.3f} [{summary[name + '_low']:.3f}, {summary[name + '_high']:.3f}]"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _finite(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
