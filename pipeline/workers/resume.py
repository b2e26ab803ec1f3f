"""What a run finds when it begins: rows of earlier ones, and shards that may have changed since."""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.index import ShardIndex
from pipeline.rows import Committed, RunDir, rewrite, writer
from pipeline.rows.storage import retried
from pipeline.work import Work
from pipeline.workers.backlog import Backlog
from pipeline.workers.families import Selection, columns_of

logger = logging.getLogger(__name__)

KEEP_S = 10.0
READERS = 8


class Stamps:
    """Which shards a run directory's rows are of: <out>/shards.json, name -> stamp of the file."""

    def __init__(self, run: RunDir):
        self.run = run
        self._path = run.path("shards.json")
        self._stamps = self._read()
        self._kept_at = time.monotonic()
        self._new = False

    def see(self, index: ShardIndex) -> None:
        """Note a shard's stamp; it is kept from time to time."""
        self._new |= self._stamps.get(index.shard) != index.stamp
        self._stamps[index.shard] = index.stamp
        if time.monotonic() - self._kept_at > KEEP_S:
            self.keep()

    def keep(self) -> None:
        """Write the stamps down."""
        if self._new:
            content = json.dumps(dict(sorted(self._stamps.items())), indent=0).encode()
            retried(lambda: self.run.write(self._path, content))
        self._kept_at, self._new = time.monotonic(), False

    def changed(self, index: ShardIndex) -> bool:
        """Whether a shard is another than when its rows were computed."""
        before = self._stamps.get(index.shard, "")
        if "" in (before, index.stamp):  # not known, or the store does not tell
            return False
        if isinstance(before, int):  # as older runs noted it: the size alone
            return index.stamp.partition("-")[0] != str(before)
        return before != index.stamp

    def _read(self) -> dict[str, Any]:
        try:
            content: Any = retried(lambda: self.run.fs.cat_file(self._path))
            return dict(json.loads(content))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            logger.warning("%s is damaged (%s): taken as not there", self._path, error)
            return {}


def resumed(
    run: RunDir,
    cells: Mapping[int, Work],
    selections: Sequence[Selection],
    *,
    retry: bool,
    say: Callable[[str], None],
    living: Collection[str] = (),
) -> tuple[Backlog, Stamps]:
    """Put an interrupted run in order, and look at what it left of what is selected now.

    `retry`: rows of these works that failed are dropped, to be computed anew. So are those of
    samples whose bytes have changed, which takes reading the shards that have another stamp.
    `living`: writers of actors that are there already, and hold nothing.
    """
    rewrite.recover(run)
    writer.recover(run, living)
    stamps = Stamps(run)
    columns = columns_of(cells)
    wanted, orders = [c.row for c in columns], [c.order[0] for c in columns]
    committed = Committed(len(wanted), {})
    if run.sealed():
        if retry and (dropped := _drop_failed(run, cells)):
            say(f"{run.out}: {dropped} rows that failed are computed again")
        selections = [Selection(numbers, list(chosen)) for numbers, chosen in selections]
        _drop_changed(run, cells, selections, stamps, say)
        committed = Committed.read(run, wanted, orders if any(orders) else ())
    for lender in dict.fromkeys(work.lender for work in cells.values()):
        place = RunDir(lender, run.kind)
        if lender and place.path() != run.path():
            committed = committed.with_orders_of(place, wanted, orders)
    return Backlog(cells, committed, selections), stamps


def _drop_failed(run: RunDir, cells: Mapping[int, Work]) -> int:
    mine = pa.array(sorted({p for work in cells.values() for p in work.fingerprints.values()}))

    def failed(table: pa.Table) -> np.ndarray:
        bad = pc.fill_null(pc.not_equal(table["status"], "ok"), True)
        return np.asarray(pc.and_(bad, pc.is_in(table["fingerprint"], value_set=mine)))

    return rewrite.discard(run, failed)


def _drop_changed(
    run: RunDir,
    cells: Mapping[int, Work],
    selections: Sequence[Selection],
    stamps: Stamps,
    say: Callable[[str], None],
) -> None:
    """Drop the rows of samples whose bytes are not those that the rows stand on."""
    changed: dict[str, ShardIndex] = {}
    readers: dict[str, list[Work]] = defaultdict(list)
    for numbers, chosen in selections:
        for index, _ in chosen:
            if stamps.changed(index):
                changed[index.shard] = index
                readers[index.shard] += [cells[number] for number in numbers]
    if not changed:
        return
    say(f"{len(changed)} shards are not as they were: comparing their samples' bytes ...")
    with ThreadPoolExecutor(READERS) as pool:
        now = {name: _contents(readers[name], index, pool) for name, index in changed.items()}
    samples: set[tuple[str, str]] = set()

    def stale(table: pa.Table) -> np.ndarray:
        found = np.zeros(len(table), bool)
        shards = pa.array(list(now), pa.string())
        of_changed = np.flatnonzero(np.asarray(pc.is_in(table["shard"], value_set=shards)))
        some = table.take(pa.array(of_changed))
        columns = (some[column].to_pylist() for column in ("shard", "key", "content"))
        for row, shard, key, content in zip(of_changed, *columns, strict=True):
            if key in now[shard] and content not in now[shard][key]:
                found[row] = True
                samples.add((shard, key))
        return found

    dropped = rewrite.discard(run, stale)
    for index in changed.values():
        n = sum(shard == index.shard for shard, _ in samples)
        say(f"{index.shard} has changed: the bytes of {n} of its {len(index)} samples did")
    if dropped:
        say(f"{dropped} rows of {len(samples)} changed samples are computed anew")


def _contents(
    works: Sequence[Work], index: ShardIndex, pool: ThreadPoolExecutor
) -> dict[str, set[str | None]]:
    """Content of each sample by key, as each of the works reads it, None where it cannot."""

    def content(place: int) -> tuple[str, set[str | None]]:
        ref, found = index.ref(place), set[str | None]()
        for work in works:
            try:
                found.add(work.sample(ref).content)
            except ValueError:
                found.add(None)
        return ref.key, found

    return dict(pool.map(content, range(len(index))))
