"""Which share of an attribution lies in an object's boxes, and how much of it has left them.

Heat is the method's own, else the players' scores, else their ranks; negative heat counts as none.
Samples say where boxes are, as the judges `pointing` and `energy` read them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from pipeline import maps
from pipeline.data.ranges import read_members
from pipeline.judges import values
from pipeline.judges.boxes import boxes_of, visible
from pipeline.methods import Attribution
from pipeline.report.gallery import Photographs
from pipeline.rows import RunDir

ORDER = ("n_players", "order", "scores", "heat", "regions")
COLUMNS = ("shard", "key", "fingerprint", "objective", *ORDER)
Row = dict[str, Any]
Image = tuple[str, str]


def with_mass(
    drift: pa.Table,
    runs: tuple[RunDir, RunDir],
    *,
    field: str,
    form: str,
    plugins: Sequence[str],
) -> tuple[pa.Table, list[str]]:
    """A drift whose `inside`, `against_inside` and `moved` are filled, of images that have boxes in
    `field` of their json; and lines on those that could not be looked at.

    Of the very same rows nothing has moved: their photographs are not read, `inside` stays null.
    """
    columns = ["shard", "key", "objective", "fingerprint", "against_fingerprint"]
    rows = drift.select(columns).to_pylist()
    of_image: dict[Image, list[int]] = {}
    for i, row in enumerate(rows):
        of_image.setdefault((row["shard"], row["key"]), []).append(i)
    sides = [
        _Side(run, {row[column] for row in rows}, plugins)
        for run, column in zip(runs, ("fingerprint", "against_fingerprint"), strict=True)
    ]
    boxed = {image for image in of_image if sides[0].has_boxes(image, field)}
    inside: list[tuple[float | None, float | None]] = [(None, None)] * len(rows)
    moved: list[float | None] = [None] * len(rows)
    problems = {side.trouble: len(of_image) for side in sides if side.trouble}
    for image in sorted(boxed):
        mine = of_image[image]
        changed = [i for i in mine if rows[i]["fingerprint"] != rows[i]["against_fingerprint"]]
        for i in mine:
            moved[i] = 0.0
        if not changed:
            continue
        try:
            for side in sides:
                side.look(image, field, form)
            for i in changed:
                prints = (rows[i]["fingerprint"], rows[i]["against_fingerprint"])
                here, there = (
                    side.share(image, print_, rows[i]["objective"])
                    for side, print_ in zip(sides, prints, strict=True)
                )
                known = None if here is None or there is None else there - here
                inside[i], moved[i] = (here, there), known
        except (ValueError, OSError) as error:
            problems[str(error)] = problems.get(str(error), 0) + 1
            for i in changed:
                moved[i] = None
    for name, column in (
        ("inside", [pair[0] for pair in inside]),
        ("against_inside", [pair[1] for pair in inside]),
        ("moved", moved),
    ):
        place = drift.schema.get_field_index(name)
        drift = drift.set_column(place, drift.schema.field(name), pa.array(column, pa.float64()))
    return drift, [f"boxes: {reason} ({count} images)" for reason, count in problems.items()]


class _Side:
    """One run's attributions and photographs."""

    def __init__(self, run: RunDir, prints: set[str], plugins: Sequence[str]):
        made = {p: entry for entry in run.metadata() for p in entry["fingerprints"].values()}
        self._run, self._prints = run, prints
        self._photographs = Photographs(min(prints), made, plugins)
        self._rows: Mapping[tuple[str, ...], Row] | None = None

    @property
    def trouble(self) -> str | None:
        """Why there are no photographs."""
        return self._photographs.trouble

    def has_boxes(self, image: Image, field: str) -> bool:
        """Whether the sample's json says something in `field`."""
        ref = self._photographs.ref(*image)
        if ref is None or "json" not in ref.members:
            return False
        try:
            held = json.loads(read_members(ref.url, [ref.members["json"]])[0])
        except (ValueError, OSError):
            return False
        return isinstance(held, dict) and bool(held.get(field))

    def look(self, image: Image, field: str, form: str) -> None:
        """Read a photograph and its boxes. Raises ValueError or OSError for what cannot be."""
        self._photographs.read(*image, members=("json",))
        view = self._photographs.view
        assert view.sample is not None
        boxes = boxes_of(view.sample, field)
        self._inside_HW = visible(boxes, form, view.sample, view.preprocessing)
        self._regions: dict[str, Tensor] = {}

    def share(self, image: Image, fingerprint: str, objective: str) -> float | None:
        """Of the positive heat of one row, inside the boxes; None where there is none."""
        row = self._found()[(*image, fingerprint, objective)]
        if fingerprint not in self._regions:
            self._regions[fingerprint] = torch.from_numpy(self._photographs.regions(row))
        heat_HW = heat(row, self._regions[fingerprint]).double().clamp_min(0)
        total = heat_HW.sum()
        return float(heat_HW[self._inside_HW].sum() / total) if total else None

    def _found(self) -> Mapping[tuple[str, ...], Row]:
        if self._rows is None:
            self._rows = dict(self._read())
        return self._rows

    def _read(self) -> Iterator[tuple[tuple[str, ...], Row]]:
        rows = self._run.read(list(COLUMNS))
        prints = pa.array(sorted(self._prints))
        for row in rows.filter(pc.is_in(rows["fingerprint"], value_set=prints)).to_pylist():
            yield tuple(row[name] for name in COLUMNS[:4]), row


def heat(row: Row, regions_HW: Tensor) -> Tensor:
    """Importance of each pixel (H, W), as a row keeps it."""
    if row["heat"] is not None:
        return maps.fine(maps.unpacked(row["heat"]), regions_HW.shape)
    scores_N = None if row["scores"] is None else torch.tensor(row["scores"])
    found = Attribution(order=list(row["order"]), evaluations=0, scores_N=scores_N)
    return values(found, row["n_players"])[regions_HW]
