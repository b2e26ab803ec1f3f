"""What parts hold, compactly: for resuming, a few bytes a row, whatever the columns of a kind."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.rows import parts
from pipeline.rows.directory import RunDir


class Part(NamedTuple):
    """A part of a run directory, by their names."""

    out: str
    name: str


@dataclass(frozen=True)
class Chunk:
    """Rows of one shard in one part; `key_R` points into `keys`, `row_R` into the distinct rows
    that are wanted and `order_R`, of rows that are ok, into their distinct orders, -1 for none."""

    part: Part
    keys: pa.Array
    key_R: np.ndarray
    row_R: np.ndarray
    order_R: np.ndarray
    ok_R: np.ndarray


@dataclass(frozen=True)
class Found:
    """Rows that parts hold of a shard's n samples, W wanted of each.

    `rows_nW`: how many, so 0 where missing and 2 where one lies in two parts; `failed_nW`: whether
    all of these failed; `holder_nW`: for missing ones, which of `parts` has a row that holds their
    order, -1 for none; `strange`: rows of samples that are not among the n.
    """

    rows_nW: np.ndarray
    failed_nW: np.ndarray
    holder_nW: np.ndarray
    parts: Sequence[Part]
    strange: int

    @property
    def done_nW(self) -> np.ndarray:
        """Which rows are there, failed ones included."""
        return self.rows_nW > 0


class Committed:
    """Which rows of `wanted`, pairs of (fingerprint, facet), the parts of a run directory hold.

    One pair may be wanted several times, and several may stand on one order: `row_W` and `order_W`
    say which of the distinct rows and orders each is.
    """

    def __init__(
        self,
        n_wanted: int,
        chunks: Mapping[str, Sequence[Chunk]],
        row_W: np.ndarray | None = None,
        order_W: np.ndarray | None = None,
    ):
        self._chunks = chunks
        self.row_W = np.arange(n_wanted) if row_W is None else row_W
        self.order_W = order_W

    @classmethod
    def read(
        cls,
        run: RunDir,
        wanted: Sequence[tuple[str, Any]],
        orders: Sequence[str] = (),
        names: Sequence[str] | None = None,
    ) -> "Committed":
        """Read the identities in all parts, or in those of `names`.

        `orders`: the order fingerprint of each wanted row. Raises UsageError for a part that is
        damaged or somebody else's.
        """
        rows = _Codes(run, wanted, "fingerprint")
        held = _Codes(run, [(o, f) for o, (_, f) in zip(orders, wanted, strict=False)])
        columns = [*run.kind.identity, "status", *(["order_fingerprint"] if orders else [])]
        chunks: dict[str, list[Chunk]] = defaultdict(list)

        def of_part(name: str, table: pa.Table) -> list[tuple[str, Chunk]]:
            return list(_chunks(Part(run.out, name), table, rows, held))

        for found in run.each(columns, of_part, names):
            for shard, chunk in found:
                chunks[shard].append(chunk)
        return cls(len(wanted), chunks, rows.number_W, held.number_W if orders else None)

    def with_orders_of(
        self, run: RunDir, wanted: Sequence[tuple[str, Any]], orders: Sequence[str]
    ) -> "Committed":
        """And the orders that another run's rows hold. Raises as `read` does."""
        none = [("", facet) for _, facet in wanted]  # its rows are not those that are wanted
        others = Committed.read(run, none, orders)
        both = self._chunks.keys() | others._chunks.keys()
        chunks = {s: [*self._chunks.get(s, ()), *others._chunks.get(s, ())] for s in both}
        return Committed(len(wanted), chunks, self.row_W, others.order_W)

    @property
    def shards(self) -> set[str]:
        """Shards that rows are of."""
        return set(self._chunks)

    def of(
        self, shard: str, keys: Sequence[str] | pa.Array, columns: Sequence[int] | None = None
    ) -> Found:
        """What there is of these samples of a shard, of all that is wanted or some `columns`."""
        names = keys if isinstance(keys, pa.Array) else pa.array(keys, pa.string())
        chunks = self._chunks.get(shard, ())
        row_W, order_W = self.row_W, self.order_W
        if columns is not None:
            row_W = row_W[list(columns)]
            order_W = None if order_W is None else order_W[list(columns)]
        parts = list(dict.fromkeys(chunk.part for chunk in chunks))
        number = {part: np.int32(i) for i, part in enumerate(parts)}
        ok_nD, failed_nD = (np.zeros((len(names), 1 + _most(self.row_W)), np.int32) for _ in "12")
        holder_nD = np.full((len(names), 1 + _most(self.order_W)), len(parts), np.int32)
        strange = 0
        places = _places([chunk.keys for chunk in chunks], names)
        for chunk, place_K in zip(chunks, places, strict=True):
            place_R = place_K[chunk.key_R]
            there_R, row_R, order_R = place_R >= 0, chunk.row_R >= 0, chunk.order_R >= 0
            strange += int((~there_R & row_R).sum())
            for count_nD, of_R in ((ok_nD, chunk.ok_R), (failed_nD, ~chunk.ok_R)):
                at = there_R & row_R & of_R
                np.add.at(count_nD, (place_R[at], chunk.row_R[at]), 1)
            at = there_R & order_R
            np.minimum.at(holder_nD, (place_R[at], chunk.order_R[at]), number[chunk.part])
        rows_nW = (ok_nD + failed_nD)[:, row_W]
        holder_nW = np.full_like(rows_nW, -1) if order_W is None else holder_nD[:, order_W]
        holder_nW[(rows_nW > 0) | (holder_nW == len(parts))] = -1
        return Found(rows_nW, (rows_nW > 0) & (ok_nD[:, row_W] == 0), holder_nW, parts, strange)


def _most(number_W: np.ndarray | None) -> int:
    return -1 if number_W is None or not len(number_W) else int(number_W.max())


class _Codes:
    """Pairs of (text, facet) as their number among the distinct ones, `number_W` of each that was
    given, -1 for others."""

    def __init__(self, run: RunDir, pairs: Sequence[tuple[str, Any]], column: str = ""):
        self.column, self.facet = column or "order_fingerprint", run.kind.facet
        self.texts = pa.array(list(dict.fromkeys(t for t, _ in pairs)), pa.string())
        facets = list(dict.fromkeys(f for _, f in pairs))
        self.facets = pa.array(facets, run.kind.schema.field(self.facet).type)
        self.table = np.full((len(self.texts) + 1, len(facets) + 1), -1, np.int16)
        texts = {t: i for i, t in enumerate(self.texts.to_pylist())}
        numbers = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
        for (text, facet), number in numbers.items():
            self.table[texts[text], facets.index(facet)] = number
        self.number_W = np.array([numbers[pair] for pair in pairs], np.int64)

    def of(self, table: pa.Table) -> np.ndarray:
        """The number of each row."""
        return self.table[
            _index(table[self.column], self.texts), _index(table[self.facet], self.facets)
        ]


def _chunks(part: Part, table: pa.Table, rows: _Codes, held: _Codes) -> Iterator[tuple[str, Chunk]]:
    """A part's rows that say something of wanted ones, by shard."""
    row_R = rows.of(table)
    ok_R = np.asarray(pc.fill_null(pc.equal(table["status"], "ok"), False))
    order_R = np.where(ok_R, held.of(table), -1) if len(held.texts) else np.full_like(row_R, -1)
    named_R = pc.and_(pc.is_valid(table["shard"]), pc.is_valid(table["key"]))
    kept_R = np.flatnonzero(((row_R >= 0) | (order_R >= 0)) & np.asarray(named_R))
    if not len(kept_R):
        return
    shards, shard_R = parts.coded(table["shard"].take(pa.array(kept_R)))
    keys = table["key"].take(pa.array(kept_R))
    in_order_R = np.argsort(shard_R, kind="stable")
    ends = np.searchsorted(shard_R[in_order_R], np.arange(len(shards) + 1))
    for shard, start, end in zip(shards.to_pylist(), ends[:-1], ends[1:], strict=True):
        of_shard = in_order_R[start:end]
        names, key_R = parts.coded(keys.take(pa.array(of_shard)))
        at = kept_R[of_shard]
        yield shard, Chunk(part, names, key_R, row_R[at], order_R[at].astype(np.int16), ok_R[at])


def _places(chunks: Sequence[pa.Array], names: pa.Array) -> list[np.ndarray]:
    """Where in `names` the keys of each chunk are, -1 for none; one look-up for all."""
    if not chunks:
        return []
    place = pc.index_in(pa.chunked_array(chunks, pa.string()), value_set=names)
    found = np.asarray(pc.fill_null(place, -1))
    return np.split(found, np.cumsum([len(c) for c in chunks])[:-1])


def _index(column: pa.ChunkedArray, values: pa.Array) -> np.ndarray:
    """Where in `values` each is; the last place, which stands for none, where it is not there."""
    found = pc.index_in(column, value_set=values)
    return np.asarray(pc.fill_null(found, len(values)))
