"""Whole rows of images, one image at a time."""

from collections.abc import Iterator
from itertools import groupby, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import UsageError
from pipeline.rows import RunDir, parts

PLACE = ["dataset", "shard", "key"]
LEFT_OUT = "heat"
"""A column that takes much memory and is not drawn."""

Place = tuple[str, ...]


def by_image(rows: pa.Table, limit: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of each of the first images of rows that are in the order of images."""
    places = list(zip(*(rows[column].to_pylist() for column in PLACE), strict=True))
    for _, numbers in islice(groupby(range(len(rows)), key=places.__getitem__), limit):
        mine = list(numbers)
        yield rows.slice(mine[0], len(mine)).to_pylist()


def of_key(run: RunDir, key: str, shard: str | None = None) -> list[dict[str, Any]]:
    """Rows of one image. Raises UsageError for a key that the run lacks, or of several images."""

    def of_part(name: str, table: pa.Table) -> tuple[str, set[Place]]:
        return name, _places(table.filter(pc.equal(table["key"], key)))

    found = run.each(PLACE, of_part)
    if not found:
        raise UsageError(f"out={run.out}: no rows there; run {run.kind.job} first")
    places = {p for _, every in found for p in every if shard in (None, p[1])}
    if not places:
        where = "" if shard is None else f" in shard={shard}"
        raise UsageError(f"key={key}: the run has no such image{where}; its report lists keys")
    if len(places) > 1:
        shards = ", ".join(sorted(f"{dataset}/{name}" for dataset, name, _ in places))
        raise UsageError(f"key={key}: several images have it, in {shards}; give shard=<one>")
    return _rows(run, [name for name, every in found if places & every], places)


def _places(table: pa.Table) -> set[Place]:
    every = table.select(PLACE).group_by(PLACE).aggregate([])
    return set(zip(*(map(str, every[column].to_pylist()) for column in PLACE), strict=True))


def _rows(run: RunDir, names: list[str], wanted: set[Place]) -> list[dict[str, Any]]:
    columns = [name for name in run.kind.schema.names if name != LEFT_OUT]
    keys = pa.array(sorted({place[2] for place in wanted}))

    def of_part(_: str, table: pa.Table) -> pa.Table:
        return table.filter(pc.is_in(table["key"], value_set=keys))

    every = parts.distinct(pa.concat_tables(run.each(columns, of_part, names)), run.kind.identity)
    rows = every.sort_by([(name, "ascending") for name in PLACE]).to_pylist()
    return [row for row in rows if tuple(str(row[c]) for c in PLACE) in wanted]
