"""Mean curves and their bands, read again from <out>/curves.parquet."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import UsageError
from pipeline.report import Curve, Name
from pipeline.rows import Storage
from pipeline.statistics import LABELS, Band

FILE = "curves.parquet"
POINT = ("fraction", "mean", "low", "high")
KEY = (*("title", *LABELS, "objective", "fingerprint", "n", "seeds"), "subset", "quantity")


def load(run: Storage) -> list[Curve]:
    """Those of seeds of one control together, not those of each. Raises UsageError where the file
    is not there."""
    try:
        content: Any = run.fs.cat_file(run.path(FILE))
    except FileNotFoundError:
        raise UsageError(f"out={run.out}: no {FILE} there; run jobs.aggregate first") from None
    try:
        table = pq.read_table(io.BytesIO(content)).select([*KEY, *POINT])
    except (pa.ArrowException, KeyError) as error:
        raise UsageError(
            f"{run.path(FILE)} does not hold mean curves ({error}); run jobs.aggregate anew"
        ) from None
    lines: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for point in table.to_pylist():
        lines.setdefault(tuple(point[name] for name in KEY), []).append(point)
    every = [_curve(points) for points in lines.values() if points[0]["seeds"] != 1]
    return [curve for curve in every if curve.n and not np.isnan(curve.band.mean_G).any()]


def _curve(points: Sequence[dict[str, Any]]) -> Curve:
    one = points[0]
    column = {c: np.array([p[c] for p in points], dtype=np.float64) for c in POINT}
    variant = one["title"].removeprefix(one["method"]).removeprefix(", ")
    return Curve(
        name=Name(method=one["method"], variant=variant, model=one["model"]),
        labels={c: one[c] for c in LABELS if c != "method" and one[c] is not None},
        x_G=column["fraction"],
        band=Band(mean_G=column["mean"], low_G=column["low"], high_G=column["high"]),
        **{c: one[c] for c in ("objective", "quantity", "subset", "n")},
    )
