"""The report's section on undesirable pixels: phi against controls, masks over photographs."""

from collections.abc import Iterable
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from pipeline import config
from pipeline.methods.undesirable import Undesirable
from pipeline.pictures import Photographs, Tile, data_uri, exhibits, interval, n_images, ruled, svg
from pipeline.results import Run
from pipeline.undesirable.aggregate import CONFIDENCE, MaskAggregate, MaskGroup
from pipeline.undesirable.controls import CONTROLS, SAME_AREA
from pipeline.undesirable.evaluate import MASKS, THRESHOLD, THRESHOLDS

HEAT = matplotlib.colormaps["turbo"]


def section(run: Run, found: MaskAggregate, gallery: int) -> dict[str, Any]:
    """What the page's template shows."""
    groups = [group for group in found.groups if group.summary["n"]]
    masked = Run(run.out, MASKS)
    return {
        "figure": _figure(groups),
        "rows": [_cells(group) for group in groups],
        "ranges": [f"{low} to {high} %" for low, high in CONFIDENCE],
        "trials": max((group.summary["trials"] for group in groups), default=1),
        "exhibits": list(exhibits(masked, found.rows, gallery, _draw)),
        "images": n_images(found.rows),
        "subset": found.settings["subset"],
    }


def table(found: MaskAggregate) -> str:
    """The summary as text: a line a method."""
    heads = ["method", "phi", "best control of equal area", "undesirable", "images"]
    cells = []
    for group in found.groups:
        s = group.summary
        images = f"{s['n']}" + (f" (+{s['failed']} rows failed)" if s["failed"] else "")
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
    return ruled(heads, cells)


def overlay(pixels_HWC: np.ndarray, blurred_HW: np.ndarray) -> Image.Image:
    """Blur 1 - M' in colour over the photograph; `pixels_HWC` and `blurred_HW` in 0..1."""
    weight_HW1 = np.clip(blurred_HW / THRESHOLD, 0, 1)[..., None] * 0.7
    mixed = (1 - weight_HW1) * (0.3 + 0.6 * pixels_HWC) + weight_HW1 * HEAT(blurred_HW)[..., :3]
    return Image.fromarray((mixed * 255).clip(0, 255).astype(np.uint8))


def _draw(records: list[dict[str, Any]], photographs: Photographs) -> Iterable[Tile]:
    """The first trial of each method."""
    for row in records:
        if row["trial"]:
            continue
        method: Undesirable = config.component(
            photographs.made[row["fingerprint"]]["config"]["methods"][row["method"]]
        )
        mask_c = torch.from_numpy(np.asarray(row["mask"], dtype=np.float32))
        mask_Bcc = mask_c.view(1, method.cells, method.cells)
        hw = (photographs.pixels_HWC.shape[0], photographs.pixels_HWC.shape[1])
        blurred_HW = 1 - method.enlarge(mask_Bcc, hw)[0].numpy()
        then = photographs.class_name(row["prediction_after"])
        turned = "" if row["prediction_after"] == row["prediction"] else f", now predicted {then}"
        caption = (
            f"probability {row['probability_before']:.3f} to {row['probability_after']:.3f}"
            f"{turned}; phi {row['phi']:.0f} %; {100 * row['undesirable']:.1f} % of pixels"
        )
        picture = data_uri(overlay(photographs.pixels_HWC, blurred_HW))
        yield Tile(picture=picture, title=row["method"], caption=caption)


def _figure(groups: list[MaskGroup]) -> str:
    """phi of masks and controls, and the share of undesirable pixels over thresholds."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = ["phi", *(f"phi_{name}" for name in CONTROLS)]
    for i, group in enumerate(groups):
        s, y = group.summary, np.arange(len(names)) + 0.2 * i
        middle = np.array([s[name] for name in names])
        bounds = np.array([[s[f"{name}_{side}"] for name in names] for side in ("low", "high")])
        left.errorbar(
            middle, y, xerr=np.abs(bounds - middle), fmt="o", ms=4, color=f"C{i}", label=s["title"]
        )
        right.plot(THRESHOLDS, group.fractions.mean_G, color=f"C{i}", label=s["title"])
        right.fill_between(
            THRESHOLDS,
            group.fractions.low_G,
            group.fractions.high_G,
            color=f"C{i}",
            alpha=0.15,
            lw=0,
        )
    left.set_yticks(np.arange(len(names)) + 0.2, ["mask", *(n.replace("_", " ") for n in CONTROLS)])
    left.invert_yaxis()
    left.set_xscale("symlog", linthresh=100)
    low, ticks = min(left.get_xlim()[0], -10), [-10000, -1000, -100, -50, 0, 50, 100]
    left.set_xticks(ticks, [str(tick) for tick in ticks])
    left.set_xlim(low, 105)  # ticks widen limits
    left.axvline(0, color="0.6", lw=0.8)
    left.set(title="phi: residual probability recovered, %")
    left.legend(fontsize=8, frameon=False)
    right.axvline(THRESHOLD, color="0.6", lw=0.8)
    right.set(
        title="share of pixels blurred more than", xlabel="threshold on 1 - M'", ylim=(0, None)
    )
    return svg(figure, "undesirable")


def _cells(group: MaskGroup) -> dict[str, Any]:
    s = group.summary
    percents = ("phi", "phi_printed", "phi_median", "phi_ratio")
    return (
        {name: interval(s, name, ".1f") for name in percents}
        | {
            name: interval(s, name, ".3f")
            for name in (
                "target_drift_per_gain",
                "others_drift_per_gain",
                "target_drift",
                "others_drift",
                "probability_before",
                "probability_after",
            )
        }
        | {
            name: interval(s, name, ".2f")
            for name in ("iou", "pearson", "top1_before", "top1_after", "top5_before", "top5_after")
        }
        | {
            "method": s["title"],
            "model": s["model"],
            "undesirable": interval(s, "undesirable", ".4f"),
            "improved": f"{100 * s['improved']:.0f} %, {100 * s['worse']:.0f} %",
            "converged": f"{100 * s['converged']:.0f} %",
            **{name: s[name] for name in ("saturated", "flat", "n_iou", "n_pearson")},
            "seconds": f"{s['seconds']:.1f}",
            "n": f"{s['n']}" + (f" (+{s['failed']} rows failed)" if s["failed"] else ""),
            "by_confidence": [
                f"{interval(s, f'phi_{low}_{high}', '.1f')} (n = {s[f'n_{low}_{high}']})"
                for low, high in CONFIDENCE
            ],
        }
    )
