"""Few large parts for many small ones, with the same rows, each once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.rows import parts, rewrite
from pipeline.rows.directory import BY_IMAGE, RunDir


@dataclass(frozen=True)
class Size:
    """How large a part may be: rows, and bytes of these before compression."""

    rows: int
    bytes: int = 128 * 2**20

    def holds(self, rows: int, n_bytes: int) -> bool:
        """Whether a part of so many is within it."""
        return rows <= self.rows and n_bytes <= self.bytes


@dataclass(frozen=True)
class Extent:
    """A part as its footer has it; `first`: its first shard and key."""

    name: str
    made: bytes
    first: tuple[str, str]
    rows: int
    bytes: int


def surplus(run: RunDir) -> dict[str, np.ndarray]:
    """Rows that another part, or the same, holds too, as a bool for each of those parts' rows."""
    columns = [*run.kind.identity, "status"]

    def coded(name: str, table: pa.Table) -> tuple[str, pa.Table]:
        arrays = [column.combine_chunks().dictionary_encode() for column in table.columns]
        return name, pa.table([pa.chunked_array([a]) for a in arrays], columns)

    found = run.each(columns, coded)
    if not found:
        return {}
    every = pa.concat_tables([table for _, table in found]).unify_dictionaries()
    extra_R = ~parts.firsts(every, run.kind.identity)
    ends = np.cumsum([len(table) for _, table in found])[:-1]
    each = zip((name for name, _ in found), np.split(extra_R, ends), strict=True)
    return {name: extra for name, extra in each if extra.any()}


def compact(run: RunDir, size: Size) -> Iterator[int]:
    """Drop rows that lie there twice, then merge small parts that were made the same way.

    Yields after each rewrite the parts that it has read. Holds one part of `size` in memory.
    """
    rewrite.recover(run)
    for name, extra_R in surplus(run).items():
        rewrite.without(run, name, extra_R)
        yield 1
    for extents in merges(run.look(lambda path: extent(run, path)), size):
        paths = [run.path(run.kind.folder, e.name) for e in extents]
        tables = [(path, parts.read(run.fs, path)) for path in paths]
        merged = parts.fitted(tables, run.kind.schema).sort_by(BY_IMAGE)
        merged = merged.replace_schema_metadata({parts.METADATA_KEY: extents[0].made})
        del tables
        rewrite.replace(run, [e.name for e in extents], merged)
        yield len(extents)


def merges(extents: Sequence[Extent], size: Size) -> list[list[Extent]]:
    """Which parts become one: neighbours, made the same way, each at most half of `size`."""
    ways: dict[bytes, list[Extent]] = defaultdict(list)
    for one in sorted(extents, key=lambda e: (e.first, e.name)):
        if size.holds(2 * one.rows, 2 * one.bytes):
            ways[one.made].append(one)
    groups: list[list[Extent]] = []
    for small in ways.values():
        group: list[Extent] = []
        for one in small:
            full = [*group, one]
            if not size.holds(sum(e.rows for e in full), sum(e.bytes for e in full)):
                groups.append(group)
                full = [one]
            group = full
        groups.append(group)
    return [group for group in groups if len(group) > 1]


def extent(run: RunDir, path: str) -> Extent:
    """What a part's footer says of it."""
    footer = parts.footer(run.fs, path)
    meta = footer.metadata
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    return Extent(
        name=path.rpartition("/")[2],
        made=footer.schema_arrow.metadata[parts.METADATA_KEY],
        first=(_least(groups, "shard"), _least(groups, "key")),
        rows=meta.num_rows,
        bytes=sum(group.total_byte_size for group in groups),
    )


def _least(groups: Sequence[pq.RowGroupMetaData], column: str) -> str:
    """The least value of a column, as far as statistics say; the first group's, in sorted parts."""
    for group in groups[:1]:
        for i in range(group.num_columns):
            chunk = group.column(i)
            if chunk.path_in_schema == column and chunk.statistics is not None:
                return str(chunk.statistics.min)
    return ""
