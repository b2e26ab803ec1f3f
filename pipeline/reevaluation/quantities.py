"""What of a drift is judged: areas, orders, predictions, mass in boxes; positive is worse."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.compare.agreement import floats
from pipeline.reevaluation.verdicts import Quantity

KINDS = ("auc", "orders", "flips", "moved")


def quantities(drift: pa.Table, tolerance: Mapping[str, float | None]) -> list[Quantity]:
    """Every quantity whose tolerance, by kind, is not None.

    auc: of each method and objective, how much worse the measure has become; a measure that has no
    better and worse counts in either direction. orders: 1 - Spearman's rho. moved: share of heat
    that has left the boxes, of images that have some. flips: whether an image's prediction changed.
    """
    found = [
        one
        for (method, objective, measure), rows in _groups(drift)
        for one in _of_method(f"{method}, {objective}", measure, rows, tolerance)
    ]
    if tolerance["flips"] is not None:
        images = _by_image(drift)
        values_n = images[np.isfinite(images)]
        found.append(
            Quantity(
                kind="flips",
                subject="",
                tolerance=tolerance["flips"],
                values_n=values_n,
                share=True,
                same=_same(drift),
            )
        )
    return found


def _of_method(
    subject: str, measure: str, rows: pa.Table, tolerance: Mapping[str, float | None]
) -> Iterator[Quantity]:
    same = _same(rows)
    directed = rows["loss"].null_count < len(rows)
    values = {
        "auc": floats(rows["loss"] if directed else rows["difference"]),
        "orders": 1 - floats(rows["spearman"]),
        "moved": floats(rows["moved"]),
    }
    for kind, values_n in values.items():
        known_n, limit = values_n[np.isfinite(values_n)], tolerance[kind]
        if limit is None or (kind == "moved" and not len(known_n)):
            continue
        yield Quantity(
            kind=kind if kind != "auc" or measure.startswith("auc_") else measure,
            subject=subject,
            tolerance=limit,
            values_n=known_n,
            two_sided=kind == "auc" and not directed,
            same=same,
        )


def _groups(drift: pa.Table) -> Iterator[tuple[tuple[str, str, str], pa.Table]]:
    by = ["method", "objective", "measure"]
    for key in drift.select(by).group_by(by, use_threads=False).aggregate([]).to_pylist():
        rows = drift
        for column, value in key.items():
            same = pc.is_null(rows[column]) if value is None else pc.equal(rows[column], value)
            rows = rows.filter(same)
        yield (key["method"], key["objective"], key["measure"] or "auc_probability"), rows


def _by_image(drift: pa.Table) -> np.ndarray:
    """Whether each image's prediction has changed, 0 or 1, NaN where that is not known."""
    images = drift.group_by(["dataset", "shard", "key"], use_threads=False)
    return floats(images.aggregate([("flipped", "max")])["flipped_max"])


def _same(rows: pa.Table) -> bool:
    return bool(pc.all(pc.equal(rows["fingerprint"], rows["against_fingerprint"])).as_py())
