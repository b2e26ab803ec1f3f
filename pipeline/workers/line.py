"""An actor's inner life, without Ray: images are decoded ahead of the engine and committed behind.

    put -> [queue] -> decoding threads -> [ready] -> the engine's thread -> [rows] -> one committer

At most `window` images are between the queue and durable rows. The committer writes whatever has
come to it since its last write as one group, so that a slow store is asked less often, not later.
"""

import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from pipeline.engine import Engine
from pipeline.rows import RunDir, Writer
from pipeline.rows.storage import retried
from pipeline.work import Known, Row, Work
from pipeline.workers.lease import Lease, Report
from pipeline.workers.schedule import Image

logger = logging.getLogger(__name__)

ROWS_PER_PART = 4096
FIRST_PART_S = 15.0
LONGEST_PART_S = 600.0
"""A writer seals early in its life, for whoever looks, then less and less often."""
DECODERS = 2


@dataclass(frozen=True)
class _Finished:
    """An image's rows on their way to the store."""

    image: Image
    rows: Sequence[Row]


class Line:
    """Computes images put into it and makes their rows durable. Threads start with `start`."""

    def __init__(
        self,
        work: Work,
        engine: Engine,
        writer: Writer,
        *,
        in_engine: int,
        threads: int,
        deadline_s: float,
        fatal: Callable[[BaseException], None],
    ):
        """`in_engine`: images that the engine is given at once; `threads`: of the engine;
        `fatal`: told of what ends the engine's thread."""
        self.work, self.engine, self.writer, self.fatal = work, engine, writer, fatal
        self.in_engine, self.threads, self.deadline_s = in_engine, threads, deadline_s
        ahead = max(2, min(DECODERS * 8, in_engine // 2))
        self.window = in_engine + ahead
        self._queue: deque[Lease] = deque()
        self._begun: dict[Image, float] = {}
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        self._rows: queue.SimpleQueue[_Finished | None] = queue.SimpleQueue()
        self._done: list[Image] = []
        self._failures: Counter[str] = Counter()
        self._refused: Exception | None = None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._decoders = ThreadPoolExecutor(DECODERS, "decode")
        self._committer = threading.Thread(target=self._commit, name="commit", daemon=True)
        self._started = time.monotonic()

    def start(self) -> None:
        """Be ready for images."""
        self._started = time.monotonic()
        threading.Thread(target=self._compute, name="engine", daemon=True).start()
        self._committer.start()

    def put(self, leases: Iterable[Lease]) -> None:
        """Line images up."""
        with self._lock:
            self._queue.extend(leases)
        self._begin()

    def drain(self) -> list[Image]:
        """Begin no image that has not begun: those, which are forgotten."""
        with self._changed:
            left = [lease.image for lease in self._queue]
            self._queue.clear()
            self._changed.notify_all()
        return left

    def wait(self, low: int, patience_s: float) -> None:
        """Until images are durable of which nobody has been told and no more than `low` are left,
        or something went wrong, or time is up."""

        def worth_telling() -> bool:
            left = len(self._queue) + len(self._begun)
            return self._refused is not None or (bool(self._done) and left <= low)

        with self._changed:
            self._changed.wait_for(worth_telling, patience_s)

    def report(self) -> Report:
        """What nobody has been told yet."""
        now = time.monotonic()
        with self._lock:
            oldest = min(self._begun.items(), key=lambda item: item[1], default=None)
            report = Report(
                done=self._done,
                failures=self._failures,
                in_flight=len(self._begun),
                oldest=oldest and (oldest[0], now - oldest[1]),
                old=[i for i, began in self._begun.items() if now - began > self.deadline_s / 2],
                counters=replace(self.engine.counters),
                seconds=now - self._started,
                sealed=self.writer.sealed,
                refused=self._refused,
            )
            self._done, self._failures = [], Counter()
        return report

    def close(self) -> None:
        """Seal what is durable, once nothing is under way any more."""
        self._rows.put(None)
        self._committer.join()
        self._decoders.shutdown(wait=False)
        if self._refused is None:
            self.writer.close()

    def _begin(self) -> None:
        """Decode as many as there is room for."""
        with self._lock:
            while self._queue and len(self._begun) < self.window:
                lease = self._queue.popleft()
                self._begun[lease.image] = time.monotonic()
                self._decoders.submit(self._decode, lease)

    def _decode(self, lease: Lease) -> None:
        ref, wanted = lease.ref, lease.wanted
        try:
            known = self._known(lease) if lease.known else {}
            ready = self.work.read(ref, wanted, known)
        except Exception as error:
            rows = self.work.failures(ref.shard, ref.key, wanted, error)
            self._rows.put(_Finished(lease.image, rows))
        else:
            self._ready.put((lease.image, self.work.explain(ready, wanted, known)))

    def _known(self, lease: Lease) -> Known:
        """Earlier rows whose orders are those that are wanted."""
        prints, kind = self.work.order_fingerprints, self.work.kind
        place = {"shard": lease.ref.shard, "key": lease.ref.key, "status": "ok"}
        found: dict[tuple[str, Any], Row] = {}
        for part in set(lease.known.values()):
            read = partial(RunDir(part.out, kind).read_rows, part.name, **place)
            try:
                rows = retried(read)
            except FileNotFoundError:  # nobody locks a run that another one reads
                raise ValueError(
                    f"{part.out} was rewritten meanwhile: {part.name}, which held the order, is "
                    "there no more"
                ) from None
            orders = {(row["order_fingerprint"], row[kind.facet]): row for row in rows}
            for (method, facet), where in lease.known.items():
                if where == part:
                    found[method, facet] = orders[prints[method], facet]
        return found

    def _compute(self) -> None:
        torch.set_num_threads(self.threads)  # OpenMP's setting belongs to the thread
        inside = 0

        def finished(image: Image, rows: Sequence[Row]) -> None:
            nonlocal inside
            inside -= 1
            self._rows.put(_Finished(image, rows))

        try:
            while True:
                while inside < self.in_engine and (not inside or not self._ready.empty()):
                    image, task = self._ready.get()
                    inside += 1
                    self.engine.add(task, partial(finished, image))
                self.engine.step()
        except BaseException as error:
            logger.exception("the engine stopped")
            self.fatal(error)

    def _commit(self) -> None:
        """Stage what is finished, seal when it is time; a store that refuses ends it."""
        age, sealed_at, more = FIRST_PART_S, time.monotonic(), True
        try:
            while more:
                group, more = self._group(age)
                if group:
                    self.writer.stage([row for one in group for row in one.rows])
                    self._tell(group)
                now = time.monotonic()
                if self.writer.rows >= ROWS_PER_PART or now - sealed_at > age:
                    self.writer.seal()
                    sealed_at, age = now, min(2 * age, LONGEST_PART_S)
        except Exception as error:
            with self._changed:
                self._refused = error
                self._changed.notify_all()

    def _group(self, patience_s: float) -> tuple[list[_Finished], bool]:
        """All that has come, at least one where time allows; False at the end."""
        group: list[_Finished] = []
        try:
            one = self._rows.get(timeout=patience_s)
            while one is not None:
                group.append(one)
                one = self._rows.get_nowait()
        except queue.Empty:
            return group, True
        return group, False

    def _tell(self, group: Sequence[_Finished]) -> None:
        with self._changed:
            for one in group:
                self._begun.pop(one.image, None)
                self._done.append(one.image)
                failed = (str(row["error"]) for row in one.rows if row["status"] != "ok")
                self._failures.update(failed)
            self._changed.notify_all()
        self._begin()
