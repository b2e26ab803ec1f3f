"""Whole rows of the first images of a run: two light passes, whatever the run's size."""

import heapq
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import UsageError
from pipeline.rows import RunDir, parts

PLACE = ["dataset", "shard", "key"]
LEFT_OUT = "heat"
"""A column that takes much memory and is not drawn."""

Place = tuple[str, ...]


def first(run: RunDir, subset: str, limit: int) -> Iterator[list[dict[str, Any]]]:
    """Rows of each of the first `limit` images of a subset, by data set, shard and key."""
    if not limit:
        return

    def of_part(name: str, table: pa.Table) -> tuple[str, list[Place]]:
        return name, heapq.nsmallest(limit, _places(of_subset(table, subset)))

    columns = [*PLACE, "label", "prediction"]
    found = run.each(columns, of_part)
    chosen = heapq.nsmallest(limit, {place for _, places in found for place in places})
    wanted = set(chosen)
    names = [name for name, places in found if wanted & set(places)]
    by_place: dict[Place, list[dict[str, Any]]] = {place: [] for place in chosen}
    for row in _rows(run, names, wanted, subset):
        by_place[tuple(str(row[c]) for c in PLACE)].append(row)
    yield from by_place.values()


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
    return _rows(run, [name for name, every in found if places & every], places, "all")


def of_subset(table: pa.Table, subset: str) -> pa.Table:
    """Rows whose prediction is the label, or is not; those without a label are in neither."""
    if subset == "all":
        return table
    right = pc.equal(table["prediction"], table["label"])
    return table.filter(right if subset == "correct" else pc.invert(right))


def _places(table: pa.Table) -> set[Place]:
    every = table.select(PLACE).group_by(PLACE).aggregate([])
    return set(zip(*(map(str, every[column].to_pylist()) for column in PLACE), strict=True))


def _rows(run: RunDir, names: list[str], wanted: set[Place], subset: str) -> list[dict[str, Any]]:
    columns = [name for name in run.kind.schema.names if name != LEFT_OUT]
    keys = pa.array(sorted({place[2] for place in wanted}))

    def of_part(_: str, table: pa.Table) -> pa.Table:
        mine = of_subset(table, subset)
        return mine.filter(pc.is_in(mine["key"], value_set=keys))

    every = parts.distinct(pa.concat_tables(run.each(columns, of_part, names)), run.kind.identity)
    rows = every.sort_by([(name, "ascending") for name in PLACE]).to_pylist()
    return [row for row in rows if tuple(str(row[c]) for c in PLACE) in wanted]
