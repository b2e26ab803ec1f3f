"""What is to be done: the rows that parts lack, shard by shard, while shards are being indexed."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.index import ShardIndex
from pipeline.rows import Committed, Part
from pipeline.work import Wanted, Work
from pipeline.workers.lease import Lease
from pipeline.workers.schedule import Image, Span

Chosen = tuple[ShardIndex, np.ndarray]
"""A shard's index, and the places in it that are asked for."""


@dataclass
class _Shard:
    """`missing_nW`: which rows, of the columns of `Work.wanted`, each sample lacks; `holder_nW`:
    which of `parts` holds the order of one, -1 for none; None where no part holds any."""

    index: ShardIndex
    missing_nW: np.ndarray
    holder_nW: np.ndarray | None
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


@dataclass
class Backlog:
    """Images that lack rows, by (number of the shard, place in it).

    `chosen`: of every shard.
    """

    work: Work
    committed: Committed
    chosen: Iterable[Chosen]
    found: Count = field(default_factory=Count)
    complete: bool = False
    trouble: BaseException | None = None
    _shards: list[_Shard] = field(default_factory=list)
    _spans: list[Span] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _wanted: dict[bytes, Wanted] = field(default_factory=dict)
    _forwards: dict[tuple[bytes, bytes], int] = field(default_factory=dict)

    def scan(self, seen: Callable[[ShardIndex], None] = lambda index: None) -> None:
        """Look at every shard; `seen` is told of each. To be run on a thread of its own."""
        try:
            for index, places in self.chosen:
                seen(index)
                self._look(index, places)
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
                wanted, known = self._rows_of(shard.missing_nW[place]), {}
                if shard.holder_nW is not None:
                    holder_W = shard.holder_nW[place].tolist()
                    held = zip(self._columns, holder_W, strict=True)
                    known = {column: shard.parts[part] for column, part in held if part >= 0}
                yield Lease((span.shard, place), ref, wanted, known)

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

    def wanted(self, image: Image) -> Wanted:
        """Rows that an image lacked."""
        shard, place = image
        return self._rows_of(self._shards[shard].missing_nW[place])

    @cached_property
    def _columns(self) -> list[tuple[str, Any]]:
        return self.work.wanted

    def _look(self, index: ShardIndex, places: np.ndarray) -> None:
        there = self.committed.of(index.shard, index.keys)
        missing_nW = np.zeros_like(there.done_nW)
        missing_nW[places] = ~there.done_nW[places]
        todo, held_nW = np.flatnonzero(missing_nW.any(1)), there.holder_nW >= 0
        forwards = sum(self._estimate(missing_nW[i], held_nW[i]) for i in todo.tolist())
        holder_nW = there.holder_nW if held_nW.any() else None
        with self._changed:
            number = len(self._shards)
            self._shards.append(_Shard(index, missing_nW, holder_nW, there.parts))
            breaks = np.flatnonzero(np.diff(todo) > 1) + 1
            runs = np.split(todo, breaks) if len(todo) else []
            self._spans += [Span(number, int(run[0]), int(run[-1]) + 1) for run in runs]
            found = self.found
            found.shards += 1
            found.images += len(places)
            found.rows += len(places) * len(self._columns)
            found.missing_images += len(todo)
            found.missing_rows += int(missing_nW.sum())
            found.forwards += forwards
            self._changed.notify_all()

    def _rows_of(self, missing_W: np.ndarray) -> Wanted:
        key = missing_W.tobytes()
        if key not in self._wanted:
            self._wanted[key] = [self._columns[j] for j in np.flatnonzero(missing_W).tolist()]
        return self._wanted[key]

    def _estimate(self, missing_W: np.ndarray, held_W: np.ndarray) -> int:
        """Forwards that an image needs."""
        key = (missing_W.tobytes(), held_W.tobytes())
        if key not in self._forwards:
            remembered = frozenset(self._columns[j] for j in np.flatnonzero(held_W).tolist())
            self._forwards[key] = self.work.forwards(self._rows_of(missing_W), remembered)
        return self._forwards[key]
