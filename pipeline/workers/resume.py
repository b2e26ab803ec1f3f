"""What a run finds when it begins: rows of earlier ones, and shards that may have changed since."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.index import ShardIndex
from pipeline.rows import Committed, RunDir, rewrite, writer
from pipeline.rows.storage import retried
from pipeline.work import Work
from pipeline.workers.backlog import Backlog, Chosen

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
    run: RunDir, work: Work, chosen: Iterable[Chosen], *, retry: bool, say: Callable[[str], None]
) -> tuple[Backlog, Stamps]:
    """Put an interrupted run in order, and look at what it left of what is `chosen` now.

    `retry`: rows of this work that failed are dropped, to be computed anew. So are those of samples
    whose bytes have changed, which takes reading the shards that have another stamp.
    """
    rewrite.recover(run)
    writer.recover(run)
    stamps = Stamps(run)
    wanted = [(work.fingerprints[method], facet) for method, facet in work.wanted]
    orders = [work.order_fingerprints.get(method, "") for method, _ in work.wanted]
    committed = Committed(len(wanted), {})
    if run.sealed():
        if retry and (dropped := _drop_failed(run, work)):
            say(f"{run.out}: {dropped} rows that failed are computed again")
        chosen = list(chosen)
        changed = [index for index, _ in chosen if stamps.changed(index)]
        if changed:
            _drop_changed(run, work, changed, say)
        committed = Committed.read(run, wanted, orders if any(orders) else ())
    lender = RunDir(work.lender, run.kind)
    if work.lender and lender.path() != run.path():
        committed = committed.with_orders_of(lender, wanted, orders)
    return Backlog(work, committed, chosen), stamps


def _drop_failed(run: RunDir, work: Work) -> int:
    mine = pa.array(sorted(set(work.fingerprints.values())))

    def failed(table: pa.Table) -> np.ndarray:
        bad = pc.fill_null(pc.not_equal(table["status"], "ok"), True)
        return np.asarray(pc.and_(bad, pc.is_in(table["fingerprint"], value_set=mine)))

    return rewrite.discard(run, failed)


def _drop_changed(
    run: RunDir, work: Work, changed: Sequence[ShardIndex], say: Callable[[str], None]
) -> None:
    """Drop the rows of samples whose bytes are not those that the rows stand on."""
    say(f"{len(changed)} shards are not as they were: comparing their samples' bytes ...")
    with ThreadPoolExecutor(READERS) as pool:
        now = {index.shard: _contents(work, index, pool) for index in changed}
    samples: set[tuple[str, str]] = set()

    def stale(table: pa.Table) -> np.ndarray:
        found = np.zeros(len(table), bool)
        shards = pa.array(list(now), pa.string())
        of_changed = np.flatnonzero(np.asarray(pc.is_in(table["shard"], value_set=shards)))
        some = table.take(pa.array(of_changed))
        columns = (some[column].to_pylist() for column in ("shard", "key", "content"))
        for row, shard, key, content in zip(of_changed, *columns, strict=True):
            if key in now[shard] and now[shard][key] != content:
                found[row] = True
                samples.add((shard, key))
        return found

    dropped = rewrite.discard(run, stale)
    for index in changed:
        n = sum(shard == index.shard for shard, _ in samples)
        say(f"{index.shard} has changed: the bytes of {n} of its {len(index)} samples did")
    if dropped:
        say(f"{dropped} rows of {len(samples)} changed samples are computed anew")


def _contents(work: Work, index: ShardIndex, pool: ThreadPoolExecutor) -> dict[str, str | None]:
    """Content of each sample by key, None where it cannot be read."""

    def content(place: int) -> tuple[str, str | None]:
        ref = index.ref(place)
        try:
            return ref.key, work.sample(ref).content
        except ValueError:
            return ref.key, None

    return dict(pool.map(content, range(len(index))))
