"""A sample of images for tables elsewhere: photographs as the model saw them, orders drawn."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib import colormaps
from PIL import Image

from pipeline import UsageError
from pipeline.report import Name
from pipeline.report.gallery import Photographs
from pipeline.rows import RunDir

PLACE = ("dataset", "shard", "key")
SAID = ("key", "objective", "prediction", "target", "label")
JUDGED = ("auc_probability", "flip", "value")
SIDE = 160
"""Of a thumbnail, pixels at most."""
PICKS = 12
"""Players of an order that are named."""


def samples(
    run: RunDir, names: Mapping[str, Name], plugins: Sequence[str], limit: int
) -> Iterator[dict[str, Any]]:
    """Rows of the first images: photograph, order (dark first, as text too), areas.

    An image that cannot be shown is left out: the report says why.
    """
    made = {print_: entry for entry in run.metadata() for print_ in entry["fingerprints"].values()}
    opened = dict[str, Photographs]()
    for row in _rows(run, limit):
        address = row["fingerprint"]
        if address not in names or not row["order"]:
            continue
        how = repr([made[address]["config"]["dataset"], made[address]["preprocessing"]])
        if how not in opened:
            opened[how] = Photographs(address, made, plugins)
        try:
            opened[how].read(row["shard"], row["key"])
            pixels_HWC = opened[how].pixels_HWC
            drawn_HWC = _drawn(pixels_HWC, opened[how].regions(row), row["order"])
        except UsageError:
            raise
        except (ValueError, OSError):
            continue
        more = ", ..." if len(row["order"]) > PICKS else ""
        yield {
            "photograph": _thumbnail(pixels_HWC),
            "order drawn": _thumbnail(drawn_HWC),
            "method": names[address].title,
            **{name: row[name] for name in (*SAID, *JUDGED)},
            "order": ", ".join(map(str, row["order"][:PICKS])) + more,
        }


def _rows(run: RunDir, limit: int) -> list[dict[str, Any]]:
    """Good rows of the first `limit` images of the first part, from all parts; by image."""
    (first,) = run.each((*PLACE, "status"), lambda _, table: table, run.sealed()[:1])
    places = {
        tuple(row.values())
        for row in first.filter(pc.equal(first["status"], "ok")).select(PLACE).to_pylist()
    }
    wanted = set(sorted(places)[:limit])
    keys = pa.array([key for *_, key in wanted], pa.string())

    def mine(_: str, rows: pa.Table) -> list[dict[str, Any]]:
        good = pc.and_(pc.equal(rows["status"], "ok"), pc.is_in(rows["key"], value_set=keys))
        return [
            row for row in rows.filter(good).to_pylist() if tuple(map(row.get, PLACE)) in wanted
        ]

    columns = (*PLACE, "status", "fingerprint", "method", *SAID[1:], *JUDGED, "order", "regions")
    rows = [row for part in run.each(columns, mine) for row in part]
    return sorted(rows, key=lambda row: [str(row[c]) for c in (*PLACE, "method", "objective")])


def _drawn(pixels_HWC: np.ndarray, regions_HW: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The photograph in grey under the rank of each pixel's player, first dark, last pale."""
    rank_N = np.full(int(regions_HW.max()) + 1, len(order))
    rank_N[list(order)] = np.arange(len(order))
    early_HW = 1 - rank_N[regions_HW] / max(1, len(order))
    colour_HWC = colormaps["viridis_r"](early_HW)[..., :3]
    return 0.4 * pixels_HWC.mean(-1, keepdims=True) + 0.6 * colour_HWC


def _thumbnail(pixels_HWC: np.ndarray) -> np.ndarray:
    """At most SIDE pixels a side, uint8."""
    picture = Image.fromarray((pixels_HWC * 255).clip(0, 255).astype(np.uint8))
    picture.thumbnail((SIDE, SIDE))
    return np.asarray(picture)
