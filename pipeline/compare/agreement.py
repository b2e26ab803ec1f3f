"""A line for each game, method and objective: how far two runs agree over their images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.compare.drift import AGAINST
from pipeline.compare.matching import GAME
from pipeline.report.tables import Table
from pipeline.report.text import number
from pipeline.statistics import intervals

LABELS = (*(c for c in GAME if c != "n_players"), *(f"against_{c}" for c in AGAINST))
GROUP = (*LABELS, "method", "objective", "measure")
SHARES = ("same_order", "same_picks", "parting", "overlap", "iou", "spearman", "kendall")
HEADS = ("same order", "same picks", "before parting", "overlap", "IoU", "Spearman", "Kendall")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of one game, method and objective, over the n images that both runs hold.

    `labels`: the game, and what differs in the other run; `shares`: means of SHARES, NaN where they
    are not defined; `difference` of the measure, paired, with its bootstrap interval and the
    largest; `loss`: the same read so that more is worse, NaN where nothing is; `flips`: share of
    changed predictions; `wrong`, `right`: labelled images that have become so.
    """

    labels: Mapping[str, Any]
    method: str
    objective: str
    measure: str
    n: int
    shares: Mapping[str, float]
    difference: float
    low: float
    high: float
    largest: float
    loss: float
    auc_difference: float
    flips: float
    wrong: int
    right: int


def agreements(drift: pa.Table, *, resamples: int, seed: int, confidence: float) -> list[Agreement]:
    """Lines in order of labels, method, objective and measure."""
    keys = drift.select(list(GROUP)).group_by(list(GROUP), use_threads=False).aggregate([])
    found = []
    for key in keys.to_pylist():
        mine = drift
        for column, value in key.items():
            same = pc.is_null(mine[column]) if value is None else pc.equal(mine[column], value)
            mine = mine.filter(same)
        bounds = {"resamples": resamples, "seed": seed, "confidence": confidence}
        found.append(_agreement(key, mine, bounds))
    return sorted(found, key=lambda one: (str(one.labels), one.method, one.objective))


def _agreement(key: Mapping[str, Any], rows: pa.Table, bounds: Mapping[str, Any]) -> Agreement:
    gaps = floats(rows["difference"])
    gaps = gaps[np.isfinite(gaps)]
    low, high = interval(gaps, **bounds)
    turned = [pc.and_(rows["against_correct"], pc.invert(rows["correct"])).drop_null()]
    turned += [pc.and_(pc.invert(rows["against_correct"]), rows["correct"]).drop_null()]
    wrong, right = (int(pc.sum(one).as_py() or 0) for one in turned)
    return Agreement(
        labels={name: key[name] for name in LABELS},
        method=key["method"],
        objective=key["objective"],
        measure=key["measure"] or "-",
        n=len(rows),
        shares={name: _mean(floats(rows[name])) for name in SHARES},
        difference=_mean(gaps),
        low=low,
        high=high,
        largest=float(np.abs(gaps).max()) if len(gaps) else math.nan,
        loss=_mean(floats(rows["loss"])),
        auc_difference=_mean(floats(rows["auc_difference"])),
        flips=_mean(floats(rows["flipped"])),
        wrong=wrong,
        right=right,
    )


def interval(
    values_n: np.ndarray, *, resamples: int, seed: int, confidence: float
) -> tuple[float, float]:
    """Bootstrap interval of a mean; NaN of nothing, the value itself where all are equal."""
    if not len(values_n):
        return math.nan, math.nan
    if np.ptp(values_n) == 0:
        return float(values_n[0]), float(values_n[0])
    low_G, high_G = intervals(
        values_n[:, None], resamples=resamples, seed=seed, confidence=confidence
    )
    return float(low_G[0]), float(high_G[0])


def table(found: Sequence[Agreement]) -> Table:
    """Lines as people read them; labels that vary, or that differ between the two, have columns."""
    heads, cells, shown = ["method", "objective"], [], _telling(found)
    heads += [name.replace("_", " ") for name in shown]
    heads += ["images", "measure", "difference", "largest", *HEADS, "flips", "now wrong/right"]
    for one in found:
        share = [number(one.shares[name], ".3f") for name in SHARES]
        gap = f"{one.difference:+.2e} [{one.low:+.2e}, {one.high:+.2e}]"
        cells.append(
            [
                *(one.method, one.objective, *(str(one.labels[name] or "-") for name in shown)),
                *(str(one.n), one.measure, "-" if math.isnan(one.difference) else gap),
                *(number(one.largest, ".2e"), *share, number(one.flips, ".3f")),
                f"{one.wrong}/{one.right}",
            ]
        )
    return Table(heads, cells, records=[_record(one) for one in found])


def _telling(found: Sequence[Agreement]) -> list[str]:
    """Labels that vary among the lines, and those in which the two runs differ, of both."""
    own = [name for name in LABELS if not name.startswith("against_")]
    told = [name for name in own if len({one.labels[name] for one in found}) > 1]
    for name in AGAINST:
        other = f"against_{name}"
        if any(one.labels[other] != one.labels.get(name, one.method) for one in found):
            told += [name, other] if name in LABELS else [other]
    return list(dict.fromkeys(told))


def _record(one: Agreement) -> dict[str, Any]:
    flat = {k: v for k, v in asdict(one).items() if k not in ("labels", "shares")}
    return dict(one.labels) | flat | dict(one.shares)


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """NaN for null."""
    return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)


def _mean(values_n: np.ndarray) -> float:
    known = values_n[np.isfinite(values_n)]
    return float(known.mean()) if len(known) else math.nan
