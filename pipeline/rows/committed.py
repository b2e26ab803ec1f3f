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

OK, FAILED, ORDER = range(3)
"""What a row is to a wanted one: itself, itself but failed, or the holder of its order."""


class Part(NamedTuple):
    """A part of a run directory, by their names."""

    out: str
    name: str


@dataclass(frozen=True)
class Chunk:
    """Rows of one shard in one part; `key_R` points into `keys`, `wanted_R` into what is wanted."""

    part: Part
    keys: pa.Array
    key_R: np.ndarray
    wanted_R: np.ndarray
    state_R: np.ndarray


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
    """Which rows of `wanted`, pairs of (fingerprint, facet), the parts of a run directory hold."""

    def __init__(self, n_wanted: int, chunks: Mapping[str, Sequence[Chunk]]):
        self.n_wanted, self._chunks = n_wanted, chunks

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
        return cls(len(wanted), chunks)

    def with_orders_of(
        self, run: RunDir, wanted: Sequence[tuple[str, Any]], orders: Sequence[str]
    ) -> "Committed":
        """And the orders that another run's rows hold. Raises as `read` does."""
        none = [("", facet) for _, facet in wanted]  # its rows are not those that are wanted
        others = Committed.read(run, none, orders)._chunks
        both = self._chunks.keys() | others.keys()
        chunks = {s: [*self._chunks.get(s, ()), *others.get(s, ())] for s in both}
        return Committed(self.n_wanted, chunks)

    @property
    def shards(self) -> set[str]:
        """Shards that rows are of."""
        return set(self._chunks)

    def of(self, shard: str, keys: Sequence[str] | pa.Array) -> Found:
        """What there is of these samples of a shard."""
        names = keys if isinstance(keys, pa.Array) else pa.array(keys, pa.string())
        chunks = self._chunks.get(shard, ())
        shape = (len(names), self.n_wanted)
        count = {state: np.zeros(shape, np.int32) for state in (OK, FAILED)}
        parts = list(dict.fromkeys(chunk.part for chunk in chunks))
        number = {part: np.int32(i) for i, part in enumerate(parts)}
        holder_nW = np.full(shape, len(parts), np.int32)
        strange = 0
        places = _places([chunk.keys for chunk in chunks], names)
        for chunk, place_K in zip(chunks, places, strict=True):
            place_R = place_K[chunk.key_R]
            strange += int(((place_R < 0) & (chunk.state_R != ORDER)).sum())
            for state in (OK, FAILED, ORDER):
                of_R = (chunk.state_R == state) & (place_R >= 0)
                at = (place_R[of_R], chunk.wanted_R[of_R])
                if state == ORDER:
                    np.minimum.at(holder_nW, at, number[chunk.part])
                else:
                    np.add.at(count[state], at, 1)
        rows_nW = count[OK] + count[FAILED]
        holder_nW[(rows_nW > 0) | (holder_nW == len(parts))] = -1
        return Found(rows_nW, (rows_nW > 0) & (count[OK] == 0), holder_nW, parts, strange)


class _Codes:
    """Pairs of (text, facet) as their number in a list, -1 for others."""

    def __init__(self, run: RunDir, pairs: Sequence[tuple[str, Any]], column: str = ""):
        self.column, self.facet = column or "order_fingerprint", run.kind.facet
        self.texts = pa.array(list(dict.fromkeys(t for t, _ in pairs)), pa.string())
        facets = list(dict.fromkeys(f for _, f in pairs))
        self.facets = pa.array(facets, run.kind.schema.field(self.facet).type)
        self.table = np.full((len(self.texts) + 1, len(facets) + 1), -1, np.int16)
        texts = {t: i for i, t in enumerate(self.texts.to_pylist())}
        for number, (text, facet) in enumerate(pairs):
            self.table[texts[text], facets.index(facet)] = number

    def of(self, table: pa.Table) -> np.ndarray:
        """The number of each row."""
        return self.table[
            _index(table[self.column], self.texts), _index(table[self.facet], self.facets)
        ]


def _chunks(part: Part, table: pa.Table, rows: _Codes, held: _Codes) -> Iterator[tuple[str, Chunk]]:
    """A part's rows that say something of wanted ones, by shard."""
    wanted_R = rows.of(table)
    ok_R = np.asarray(pc.fill_null(pc.equal(table["status"], "ok"), False))
    state_R = np.where(ok_R, OK, FAILED).astype(np.uint8)
    if len(held.texts):
        order_R = np.where(ok_R & (wanted_R < 0), held.of(table), -1)
        state_R[order_R >= 0] = ORDER
        wanted_R = np.where(order_R >= 0, order_R, wanted_R)
    named_R = pc.and_(pc.is_valid(table["shard"]), pc.is_valid(table["key"]))
    kept_R = np.flatnonzero((wanted_R >= 0) & np.asarray(named_R))
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
        yield shard, Chunk(part, names, key_R, wanted_R[at], state_R[at])


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
