"""What a run's rows are, without their curves: a few bytes a row, so that millions fit into memory.

Curves are read a second time, part by part (`Scan.batches`).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import UsageError
from pipeline.rows import RunDir, parts
from pipeline.statistics.groups import LABELS

logger = logging.getLogger(__name__)

IMAGE = ("dataset", "shard", "key")
STATED = ("label", "prediction", "target", "measure")
BATCH = 16384


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The N rows of a run that count, each identity once, sorted by image.

    `rows`: IMAGE, LABELS, STATED, the kind's identity and status, strings as dictionaries;
    `image_N`: 0 for the first image and so on; `row_of`: by part, the number of each of its rows
    here, -1 for those that do not count.
    """

    run: RunDir
    rows: pa.Table
    image_N: np.ndarray
    row_of: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, run: RunDir) -> "Scan":
        """Read it. Raises UsageError where there are no rows."""
        identity = run.kind.identity
        columns = [*dict.fromkeys((*IMAGE, *identity, "status", *LABELS, *STATED))]
        columns = [name for name in columns if name in run.kind.schema.names]
        found = run.each(columns, _coded)
        if not found:
            raise UsageError(f"out={run.out}: no {run.kind.folder} there; run {run.kind.job} first")
        every = pa.concat_tables([table for _, table in found]).unify_dictionaries()
        counts_N = parts.firsts(every, identity)
        if repeated := int((~counts_N).sum()):
            logger.warning("out=%s: %d rows occur twice; each counts once", run.out, repeated)
        ranks = [_ranks(every[name]) for name in IMAGE]
        order = np.lexsort(ranks[::-1])
        order = order[counts_N[order]]
        number = np.full(len(every), -1)
        number[order] = np.arange(len(order))
        changes = [np.diff(rank[order], prepend=-1) != 0 for rank in ranks]
        ends = np.cumsum([len(table) for _, table in found])[:-1]
        row_of = dict(zip((name for name, _ in found), np.split(number, ends), strict=True))
        image_N = np.logical_or.reduce(changes).cumsum() - 1
        return cls(run=run, rows=every.take(pa.array(order)), image_N=image_N, row_of=row_of)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_images(self) -> int:
        """Images that rows are about."""
        return len(np.unique(self.image_N))

    @cached_property
    def ok_N(self) -> np.ndarray:
        """Whether each row is no failure."""
        return _bools(pc.equal(self.rows["status"].cast(pa.string()), "ok"))

    @cached_property
    def right_N(self) -> np.ndarray:
        """1 where the prediction is the label, 0 where it is another, -1 without a label."""
        right = pc.equal(self.rows["prediction"], self.rows["label"])
        return np.asarray(pc.fill_null(right.cast(pa.int8()), -1))

    def only(self, kept_N: np.ndarray) -> "Scan":
        """Of some rows."""
        number = np.where(kept_N, kept_N.cumsum() - 1, -1)
        row_of = {name: np.where(rows >= 0, number[rows], -1) for name, rows in self.row_of.items()}
        rows = self.rows.filter(pa.array(kept_N))
        return replace(self, rows=rows, image_N=self.image_N[kept_N], row_of=row_of)

    def column(self, name: str) -> list[Any]:
        """Values of a column."""
        return self.rows[name].to_pylist()

    def names(self, image_N: np.ndarray) -> list[tuple[str, ...]]:
        """Data set, shard and key of images, by their numbers."""
        _, first = np.unique(self.image_N, return_index=True)
        places = np.searchsorted(self.image_N[first], image_N)
        some = self.rows.select(list(IMAGE)).take(pa.array(first[places]))
        return list(zip(*(column.to_pylist() for column in some.columns), strict=True))

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Columns of the rows that count, with their numbers, so many at a time that work on them
        is worth its beginning."""
        waiting: list[tuple[np.ndarray, pa.Table]] = []
        for rows, table in self._batches(columns):
            waiting.append((rows, table))
            if sum(len(rows) for rows, _ in waiting) >= BATCH:
                yield _joined(waiting)
                waiting = []
        if waiting:
            yield _joined(waiting)

    def _batches(self, columns: Sequence[str]) -> Iterator[tuple[np.ndarray, pa.Table]]:
        for name, numbers in self.row_of.items():
            start = 0
            if not (numbers >= 0).any():
                continue
            for table in self.run.batches(name, columns, BATCH):
                rows = numbers[start : start + len(table)]
                start += len(table)
                if (rows >= 0).all():
                    yield rows, table
                elif (rows >= 0).any():
                    yield rows[rows >= 0], table.filter(pa.array(rows >= 0))

    def whole(self, images: Sequence[tuple[str, ...]]) -> pa.Table:
        """All columns of the rows of some images, given by (data set, shard, key), in their order;
        all of them in memory."""
        every, kind = np.unique(self.image_N), self.run.kind
        known = dict(zip(self.names(every), every.tolist(), strict=True))
        numbers = {known[image]: place for place, image in enumerate(images) if image in known}
        mine_N = np.isin(self.image_N, list(numbers))
        identity = [self.rows[c].filter(pa.array(mine_N)).to_pylist() for c in kind.identity]
        counts = set(zip(*identity, strict=True))
        found = []
        for name, rows in self.row_of.items():
            for number in numbers.keys() & set(self.image_N[rows[rows >= 0]].tolist()):
                _, shard, key = images[numbers[number]]
                read = self.run.read_rows(name, shard=shard, key=key)
                found += [(numbers[number], row) for row in read]
        rows = [
            row
            for _, row in sorted(found, key=lambda one: one[0])
            if tuple(row[c] for c in kind.identity) in counts
        ]
        return parts.distinct(pa.Table.from_pylist(rows, schema=kind.schema), kind.identity)

    def first(self, limit: int) -> list[tuple[str, ...]]:
        """The first images, by name."""
        return self.names(np.unique(self.image_N)[:limit])


def _joined(some: Sequence[tuple[np.ndarray, pa.Table]]) -> tuple[np.ndarray, pa.Table]:
    return np.concatenate([rows for rows, _ in some]), pa.concat_tables([t for _, t in some])


def _coded(name: str, table: pa.Table) -> tuple[str, pa.Table]:
    columns = [
        column.dictionary_encode() if pa.types.is_string(column.type) else column
        for column in table.columns
    ]
    return name, pa.table(columns, table.column_names)


def _ranks(column: pa.ChunkedArray) -> np.ndarray:
    """The place of each string among the sorted ones."""
    values, place_N = parts.coded(column)
    ranks = np.empty(len(values) + 1, np.int64)
    ranks[np.asarray(pc.sort_indices(values))] = np.arange(len(values))
    ranks[-1] = len(values)
    return ranks[place_N]


def _bools(values: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(values, False))
