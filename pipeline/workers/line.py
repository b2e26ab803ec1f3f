"""An actor's inner life, without Ray: images are decoded ahead of the engine and committed behind.

    put -> [queue] -> decoding threads -> [ready] -> the engine's thread -> [rows] -> one committer
                             ^------ the next cell that asks ------'

At most `window` images are between the queue and durable rows. The committer writes whatever has
come to it since its last write as one group a cell, so that a slow store is asked less often, not
later.
"""

import logging
import queue
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch

from pipeline.engine import Engine, Reply, Task
from pipeline.rows import Writer
from pipeline.work import Row, Work
from pipeline.workers.known import known_rows
from pipeline.workers.lease import Asked, Lease, Report, Tally
from pipeline.workers.schedule import Image

logger = logging.getLogger(__name__)

ROWS_PER_PART = 4096
FIRST_PART_S = 15.0
LONGEST_PART_S = 600.0
"""A writer seals early in its life, for whoever looks, then less and less often."""
DECODERS = 2


class _Step(NamedTuple):
    """The rows that one cell asks of a lease's image; `found`: those of the cells before."""

    lease: Lease
    number: int
    found: Sequence[Row]

    @property
    def asked(self) -> Asked:
        """What is to be done."""
        return self.lease.asked[self.number]

    @property
    def last(self) -> bool:
        """Whether the image is done with it."""
        return self.number + 1 == len(self.lease.asked)


class _Finished(NamedTuple):
    """A step's rows on their way to the store."""

    step: _Step
    rows: Sequence[Row]


class Line:
    """Computes images put into it and makes their rows durable. Threads start with `start`."""

    def __init__(
        self,
        works: dict[int, Work],
        made: dict[int, Mapping[str, Any]],
        engine: Engine,
        writer: Writer,
        *,
        in_engine: int,
        threads: int,
        deadline_s: float,
        fatal: Callable[[BaseException], None],
    ):
        """`works`, by the number of their cell, and how their rows are `made`, else as the writer
        says, may become more; `in_engine`: images that the engine is given at once; `threads`: of
        the engine; `fatal`: told of what ends the engine's thread."""
        self.engine, self.writer, self.fatal = engine, writer, fatal
        self.works, self.made = works, made
        self.in_engine, self.threads, self.deadline_s = in_engine, threads, deadline_s
        ahead = max(2, min(DECODERS * 8, in_engine // 2))
        self.window = in_engine + ahead
        self._queue: deque[Lease] = deque()
        self._begun: dict[Image, float] = {}
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        self._rows: queue.SimpleQueue[_Finished | None] = queue.SimpleQueue()
        self._done: list[Image] = []
        self._cells: defaultdict[int, Tally] = defaultdict(Tally)
        self._refused: Exception | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._decoders = ThreadPoolExecutor(DECODERS, "decode")
        self._committer: threading.Thread
        self._started = time.monotonic()

    def start(self) -> None:
        """Be ready for images."""
        self._started = time.monotonic()
        threading.Thread(target=self._compute, name="engine", daemon=True).start()
        self._start_committing()

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
        or something went wrong, or it is over, or time is up."""

        def worth_telling() -> bool:
            left = len(self._queue) + len(self._begun)
            over = self._closed or self._refused is not None
            return over or (bool(self._done) and left <= low)

        with self._changed:
            self._changed.wait_for(worth_telling, patience_s)

    def report(self) -> Report:
        """What nobody has been told yet."""
        now = time.monotonic()
        with self._lock:
            oldest = min(self._begun.items(), key=lambda item: item[1], default=None)
            report = Report(
                done=self._done,
                cells=dict(self._cells),
                in_flight=len(self._begun),
                oldest=oldest and (oldest[0], now - oldest[1]),
                old=[i for i, began in self._begun.items() if now - began > self.deadline_s / 2],
                counters=replace(self.engine.counters),
                seconds=now - self._started,
                sealed=self.writer.sealed,
                refused=self._refused,
            )
            self._done, self._cells = [], defaultdict(Tally)
        return report

    def close(self) -> None:
        """Seal what is durable, once nothing is under way any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._rows.put(None)
        self._committer.join()
        self._decoders.shutdown(wait=False)
        if self._refused is None:
            self.writer.close()

    def seal(self) -> None:
        """Make parts of what is durable, once nothing is under way; more may follow."""
        self._rows.put(None)
        self._committer.join()
        if self._refused is None:
            self.writer.seal()
            self._start_committing()

    def _start_committing(self) -> None:
        self._committer = threading.Thread(target=self._commit, name="commit", daemon=True)
        self._committer.start()

    def _begin(self) -> None:
        """Decode as many as there is room for."""
        with self._lock:
            while self._queue and len(self._begun) < self.window:
                lease = self._queue.popleft()
                self._begun[lease.image] = time.monotonic()
                self._decoders.submit(self._decode, _Step(lease, 0, ()))

    def _decode(self, step: _Step) -> None:
        ref, (cell, wanted, _) = step.lease.ref, step.asked
        work = self.works[cell]
        try:
            known = known_rows(work, ref, step.asked, step.found)
            ready = work.read(ref, wanted, known)
        except Exception as error:
            self._finished(step, work.failures(ref.shard, ref.key, wanted, error))
        else:
            self._ready.put((step, self._counted(cell, work.explain(ready, wanted, known))))

    def _finished(self, step: _Step, rows: Sequence[Row]) -> None:
        """Rows go to the store, the image to the next cell that asks for it."""
        self._rows.put(_Finished(step, rows))
        if not step.last:
            following = _Step(step.lease, step.number + 1, (*step.found, *rows))
            with suppress(RuntimeError):  # this line is closed: what is under way is lost
                self._decoders.submit(self._decode, following)

    def _counted(self, cell: int, task: Task) -> Task:
        """A task whose forwards are the cell's."""
        reply: Reply | Exception | None = None
        while True:
            try:
                failed = isinstance(reply, Exception)
                request = task.throw(reply) if failed else task.send(reply)  # type: ignore[arg-type]
            except StopIteration as stop:
                return stop.value
            try:
                reply = yield request
                with self._lock:
                    self._cells[cell].forwards += reply.forwards
            except Exception as error:
                reply = error

    def _compute(self) -> None:
        torch.set_num_threads(self.threads)  # OpenMP's setting belongs to the thread
        inside = 0

        def finished(step: _Step, rows: Sequence[Row]) -> None:
            nonlocal inside
            inside -= 1
            self._finished(step, rows)

        try:
            while True:
                while inside < self.in_engine and (not inside or not self._ready.empty()):
                    step, task = self._ready.get()
                    inside += 1
                    self.engine.add(task, partial(finished, step))
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
                for cell, mine in self._by_cell(group).items():
                    self.writer.stage(
                        [row for one in mine for row in one.rows], self.made.get(cell)
                    )
                    self._tell(mine)
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

    def _by_cell(self, group: Sequence[_Finished]) -> dict[int, list[_Finished]]:
        found: dict[int, list[_Finished]] = defaultdict(list)
        for one in group:
            found[one.step.asked.cell].append(one)
        return found

    def _tell(self, group: Sequence[_Finished]) -> None:
        with self._changed:
            for step, rows in group:
                failed = Counter(str(row["error"]) for row in rows if row["status"] != "ok")
                self._cells[step.asked.cell].add(Tally(len(rows), failed))
                if step.last:
                    self._begun.pop(step.lease.image, None)
                    self._done.append(step.lease.image)
            self._changed.notify_all()
        self._begin()
