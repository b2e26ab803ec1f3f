"""Rows of a Set-Sum run to the accuracy of partial composites, beside what is possible at all.

Accuracy at k visible tiles: the share of composites whose prediction is the label of the whole,
over composites that are classified correctly when whole, as in the paper. Intervals are percentile
bootstraps over composites.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from pipeline import UsageError
from pipeline.experiments.setsum.digits import TILES, set_sum
from pipeline.rows import RunDir
from pipeline.statistics import Band, intervals

BOUNDS = ("oracle", "largest digits first", "any order")


@dataclass(frozen=True, kw_only=True)
class Result:
    """Accuracy by method, its lead over each other method (paired), and the bounds."""

    composites: int
    accuracy: dict[str, Band]
    lead: dict[str, Band]
    bounds: dict[str, np.ndarray]


def result(
    curves: Mapping[str, np.ndarray], digits_n4: np.ndarray, *, resamples: int, confidence: float
) -> Result:
    """Statistics of curves (n, G) of the same n composites; the first method's lead over others."""

    def mean(values_nG: np.ndarray) -> Band:
        low_G, high_G = intervals(values_nG, resamples=resamples, seed=0, confidence=confidence)
        return Band(mean_G=values_nG.mean(0), low_G=low_G, high_G=high_G)

    first, *others = curves
    return Result(
        composites=len(digits_n4),
        accuracy={name: mean(values_nG) for name, values_nG in curves.items()},
        lead={name: mean(curves[first] - curves[name]) for name in others},
        bounds=bounds(digits_n4),
    )


def curves(rows: pa.Table, fingerprints: Mapping[str, str]) -> tuple[list[str], dict]:
    """Keys of the composites classified correctly, and each method's curves of them, 0/1 (n, 5).

    Raises UsageError where there is none that every method has explained.
    """
    chosen = rows.filter(
        pc.and_(
            pc.and_(pc.equal(rows["objective"], "insertion"), pc.equal(rows["status"], "ok")),
            pc.equal(rows["label"], rows["prediction"]),
        )
    )
    columns = ["key", "method", "fingerprint", "top1"]
    found: dict[str, dict[str, list[bool]]] = {method: {} for method in fingerprints}
    for row in chosen.select(columns).to_pylist():
        if fingerprints.get(row["method"]) == row["fingerprint"]:
            found[row["method"]][row["key"]] = row["top1"]
    keys = sorted(set.intersection(*(set(curve) for curve in found.values())))
    if not keys:
        raise UsageError("no composite is classified correctly and explained by every method")
    return keys, {
        method: np.array([curve[key] for key in keys], dtype=np.float64)
        for method, curve in found.items()
        if curve
    }


def bounds(digits_n4: np.ndarray) -> dict[str, np.ndarray]:
    """What orders reach if the model sums perfectly, (5,) each, for these digits.

    `oracle`: the best set of k tiles; `largest digits first`: tiles by their digit, duplicates
    included, which is what scoring tiles alone gives for a game that is the sum itself; `any
    order`: the mean over all sets of k.
    """
    coalitions_C4 = np.array(list(itertools.product([False, True], repeat=TILES)))
    size_C = coalitions_C4.sum(1)
    label_n = set_sum(digits_n4)
    right_nC = set_sum(digits_n4[:, None], coalitions_C4[None]) == label_n[:, None]
    place_n4 = np.argsort(np.argsort(-digits_n4, axis=1, kind="stable"), axis=1)
    sizes = range(TILES + 1)
    reached = (
        [right_nC[:, size_C == k].any(1).mean() for k in sizes],
        [(set_sum(digits_n4, place_n4 < k) == label_n).mean() for k in sizes],
        [right_nC[:, size_C == k].mean() for k in sizes],
    )
    return {name: np.array(values) for name, values in zip(BOUNDS, reached, strict=True)}


def table(found: Result) -> str:
    """Accuracies, the first method's lead and the bounds, in per cent, a line each."""

    def line(name: str, cells: Sequence[str]) -> str:
        return name.ljust(34) + "".join(cell.rjust(22) for cell in cells)

    def with_interval(mean: Band) -> list[str]:
        values = zip(mean.mean_G, mean.low_G, mean.high_G, strict=True)
        return [f"{100 * m:.1f} [{100 * low:.1f}, {100 * high:.1f}]" for m, low, high in values]

    first = next(iter(found.accuracy))
    return "\n".join(
        [
            line("accuracy (%) at tiles visible", [f"{100 * k // TILES} %" for k in range(5)]),
            *(line(name, with_interval(mean)) for name, mean in found.accuracy.items()),
            *(line(f"{first} - {name}", with_interval(m)) for name, m in found.lead.items()),
            *(
                line(f"{name}, perfect model", [f"{100 * value:.1f}" for value in values])
                for name, values in found.bounds.items()
            ),
        ]
    )


def draw(run: RunDir, found: Result) -> str:
    """Write <out>/setsum.png; returns its place."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    panel = figure.subplots()
    x_G = 100 * np.arange(TILES + 1) / TILES
    for shift, (name, mean) in enumerate(found.accuracy.items()):
        ends_2G = 100 * np.stack([mean.mean_G - mean.low_G, mean.high_G - mean.mean_G]).clip(0)
        panel.errorbar(x_G + shift / 3, 100 * mean.mean_G, ends_2G, lw=1.8, capsize=3, label=name)
    for style, (name, values_G) in zip((":", "--", "-."), found.bounds.items(), strict=True):
        label = f"{name}, perfect model"
        panel.plot(x_G, 100 * values_G, style, color="0.45", lw=1.0, label=label)
    panel.set(xlabel="tiles visible (%)", ylabel="accuracy (%)", xticks=x_G, ylim=(-2, 102))
    panel.set_title(f"Visual Set-Sum: insertion, {found.composites} composites")
    panel.grid(alpha=0.25)
    panel.legend(loc="upper left", fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    run.write(run.path("setsum.png"), buffer.getvalue())
    return run.path("setsum.png")
