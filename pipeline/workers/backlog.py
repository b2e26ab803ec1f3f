"""What is to be done: the rows that parts lack, shard by shard, while shards are being indexed.

Cells that stand on the same orders are a family: one lease asks all of them for an image, so that
an order is searched once. A row that several cells want is the first one's to compute.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.index import ShardIndex
from pipeline.rows import Committed, Part
from pipeline.rows.writer import Identity
from pipeline.work import Wanted, Work
from pipeline.workers.families import Selection, columns_of, families
from pipeline.workers.lease import Asked, Lease
from pipeline.workers.schedule import Image, Span


@dataclass
class _Shard:
    """A shard, for a family: `missing_nF`: which rows of `columns` each sample lacks; `holder_nF`:
    which of `parts` holds the order of one, -1 for none; None where no part holds any."""

    index: ShardIndex
    columns: Sequence[int]
    missing_nF: np.ndarray
    holder_nF: np.ndarray | None
    parts: Sequence[Part]


@dataclass
class Count:
    """Counts of what has been looked at so far."""

    images: int = 0
    rows: int = 0
    missing_images: int = 0
    missing_rows: int = 0
    forwards: int = 0
    shards: int = 0


class Looked(NamedTuple):
    """A shard when it was looked at: the places that were asked for; of these columns the rows
    that were there, up to 255, and whether no cell before asked for the same."""

    index: ShardIndex
    places: np.ndarray
    columns: Sequence[int]
    rows_nF: np.ndarray
    first_nF: np.ndarray


@dataclass
class Backlog:
    """Images that lack rows, by (number of the shard and family, place in it).

    `cells`: works by number; `found`: counts over all cells, of distinct rows; `of`: by cell, where
    `missing_rows` are those that the cell is to compute.
    """

    cells: Mapping[int, Work]
    committed: Committed
    selections: Sequence[Selection]
    found: Count = field(default_factory=Count)
    of: dict[int, Count] = field(default_factory=dict)
    complete: bool = False
    trouble: BaseException | None = None
    looked: list[Looked] = field(default_factory=list)
    _shards: list[_Shard] = field(default_factory=list)
    _spans: list[Span] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _asked: dict[tuple[Any, ...], list[tuple[int, Wanted]]] = field(default_factory=dict)
    _forwards: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _claimed: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = columns_of(self.cells)
        count = Counter(column.row for column in self.columns)
        self._shared = {j for j, column in enumerate(self.columns) if count[column.row] > 1}
        self.of = {number: Count() for number in self.cells}

    def scan(self, seen: Callable[[ShardIndex], None] = lambda index: None) -> None:
        """Look at every shard; `seen` is told of each. To be run on a thread of its own."""
        try:
            for cells, chosen in self.selections:
                mine = [j for j, column in enumerate(self.columns) if column.cell in cells]
                related = families(mine, self.columns)
                for index, places in chosen:
                    seen(index)
                    self._look(index, places, cells, mine, related)
        except BaseException as error:
            self.trouble = error
        with self._changed:
            self.complete = True
            self._changed.notify_all()

    def wait(self) -> bool:
        """Until something is missing or all was looked at; whether something is. Raises what went
        wrong."""
        with self._changed:
            self._changed.wait_for(lambda: self._spans or self.complete)
        if self.trouble is not None:
            raise self.trouble
        return bool(self._spans)

    def take(self) -> list[Span]:
        """What was found missing since the last time. Raises what went wrong."""
        if self.trouble is not None:
            raise self.trouble
        with self._changed:
            spans, self._spans = self._spans, []
        return spans

    def leases(self, spans: Iterable[Span]) -> Iterator[Lease]:
        """What an actor needs to know of each image."""
        for span in spans:
            shard = self._shards[span.shard]
            places = np.arange(span.start, span.stop)
            for place, ref in zip(places.tolist(), shard.index.refs(places), strict=True):
                known: dict[int, dict[tuple[str, Any], Part]] = {}
                if shard.holder_nF is not None:
                    for j, part in zip(shard.columns, shard.holder_nF[place].tolist(), strict=True):
                        if part >= 0:
                            cell, method, facet, *_ = self.columns[j]
                            known.setdefault(cell, {})[method, facet] = shard.parts[part]
                asked = [
                    Asked(cell, wanted, known.get(cell, {}))
                    for cell, wanted in self._rows_of(shard, place)
                ]
                yield Lease((span.shard, place), ref, asked)

    @property
    def waits(self) -> bool:
        """Whether something was found that nobody has taken."""
        return bool(self._spans)

    def shard_name(self, number: int) -> str:
        """Of a shard that was looked at."""
        return self._shards[number].index.shard

    def place(self, image: Image) -> tuple[str, str]:
        """Shard and key."""
        shard, place = image
        ref = self._shards[shard].index.ref(place)
        return ref.shard, ref.key

    def images(self, shard: int, keys: Iterable[str]) -> dict[str, Image]:
        """Images of a shard by key, of those that it has."""
        every = self._shards[shard].index.keys
        found = zip(keys, pc.index_in(pa.array(keys, pa.string()), value_set=every), strict=True)
        return {key: (shard, place.as_py()) for key, place in found if place.is_valid}

    def wanted(self, image: Image) -> list[tuple[int, Wanted]]:
        """Rows that an image lacks, cell by cell."""
        shard, place = image
        return self._rows_of(self._shards[shard], place)

    def settle(self, image: Image, durable: Collection[Identity]) -> bool:
        """Take note of an image's rows that are durable after all; whether all of them are."""
        number, place = image
        shard, name = self._shards[number], self.place(image)
        for at in np.flatnonzero(shard.missing_nF[place]).tolist():
            row = self.columns[shard.columns[at]].row
            shard.missing_nF[place, at] = (*name, *row) not in durable
        return not shard.missing_nF[place].any()

    def _look(
        self,
        index: ShardIndex,
        places: np.ndarray,
        cells: tuple[int, ...],
        mine: Sequence[int],
        related: Sequence[Sequence[int]],
    ) -> None:
        position = {j: at for at, j in enumerate(mine)}
        there = self.committed.of(index.shard, index.keys, mine)
        wanted_nF = np.zeros_like(there.done_nW)
        wanted_nF[places] = True
        for at, j in enumerate(mine):
            if j in self._shared:
                key = (index.shard, index.stamp, len(index), self.columns[j].row)
                others_n = self._claimed.setdefault(key, np.zeros(len(index), bool))
                wanted_nF[:, at] &= ~others_n
                others_n |= wanted_nF[:, at]
        missing_nF = wanted_nF & ~there.done_nW
        holder_nF = np.where(missing_nF, there.holder_nW, -1)
        with self._changed:
            rows_nF = there.rows_nW.clip(0, 255).astype(np.uint8)
            self.looked.append(Looked(index, places, mine, rows_nF, wanted_nF))
            for family in related:
                at = [position[j] for j in family]
                self._queue(index, family, missing_nF[:, at], holder_nF[:, at], there.parts)
            found = self.found
            found.shards += 1
            found.images += len(places)
            found.rows += int(wanted_nF.sum())
            for cell in cells:
                at = [at for at, j in enumerate(mine) if self.columns[j].cell == cell]
                count = self.of[cell]
                count.images += len(places)
                count.rows += len(places) * len(at)
                count.missing_images += int(missing_nF[:, at].any(1).sum())
                count.missing_rows += int(missing_nF[:, at].sum())
            self._changed.notify_all()

    def _queue(
        self,
        index: ShardIndex,
        family: Sequence[int],
        missing_nF: np.ndarray,
        holder_nF: np.ndarray,
        parts: Sequence[Part],
    ) -> None:
        """A family's rows of a shard."""
        held_nF, todo = holder_nF >= 0, np.flatnonzero(missing_nF.any(1))
        shard = _Shard(index, family, missing_nF, holder_nF if held_nF.any() else None, parts)
        number = len(self._shards)
        self._shards.append(shard)
        breaks = np.flatnonzero(np.diff(todo) > 1) + 1
        runs = np.split(todo, breaks) if len(todo) else []
        self._spans += [Span(number, int(run[0]), int(run[-1]) + 1) for run in runs]
        self.found.missing_images += len(todo)
        self.found.missing_rows += int(missing_nF.sum())
        self.found.forwards += sum(self._estimate(shard, i, held_nF[i]) for i in todo.tolist())

    def _rows_of(self, shard: _Shard, place: int) -> list[tuple[int, Wanted]]:
        missing_F = shard.missing_nF[place]
        key = (shard.columns[0], len(shard.columns), missing_F.tobytes())
        if key not in self._asked:
            asked: dict[int, list[tuple[str, Any]]] = {}
            for at in np.flatnonzero(missing_F).tolist():
                cell, method, facet, *_ = self.columns[shard.columns[at]]
                asked.setdefault(cell, []).append((method, facet))
            self._asked[key] = list(asked.items())
        return self._asked[key]

    def _estimate(self, shard: _Shard, place: int, held_F: np.ndarray) -> int:
        """Forwards that an image needs."""
        key = (shard.columns[0], shard.missing_nF[place].tobytes(), held_F.tobytes())
        if key not in self._forwards:
            columns = [self.columns[j] for j in shard.columns]
            held = {
                column.order for column, is_held in zip(columns, held_F, strict=True) if is_held
            }
            total = 0
            for cell, wanted in self._rows_of(shard, place):
                mine = {c[1:3]: c.order for c in columns if c.cell == cell and c[1:3] in wanted}
                known = frozenset(name for name, order in mine.items() if order in held)
                total += self.cells[cell].forwards(wanted, known)
                held |= {order for order in mine.values() if order[0]}
            self._forwards[key] = total
        return self._forwards[key]
