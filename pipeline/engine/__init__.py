"""Continuous batching: many images' coroutines in, device batches out, answers scattered back.

A coroutine asks by yielding a `Request`: rows for a `Program`. Whatever the images in flight ask
for is pooled; rows of one program and one length form batches under a token budget, so nothing is
padded. A pool is drained before the next, the largest, is begun: images at the same step of a
greedy search stay in step, and their batches stay full.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.engine.device import Clock, keep_freed_memory
from pipeline.engine.pool import Budget, Entry, Pool, quadratic
from pipeline.engine.program import Listed, PerRow, Program, Rows, Spent
from pipeline.models import Model
from pipeline.models.fusion import COUNTED

__all__ = [
    "Counters",
    "Engine",
    "Listed",
    "PerRow",
    "Program",
    "Reply",
    "Request",
    "Rows",
    "Spent",
    "Task",
]


@dataclass(frozen=True)
class Request:
    """Rows of one image for a program; at least one."""

    program: Program
    rows: Rows
    sets = 0

    def at(self, seat: Any) -> "Request":
        """Itself, whichever game's coroutine asks (see `pipeline.game.Ask`)."""
        return self


class Reply(NamedTuple):
    """The program's answer to a request, the device seconds, tokens and forwards that it took."""

    answer: Any
    seconds: float
    tokens: int
    forwards: float = 0.0


Task = Generator[Request, Reply, Any]
"""One image's work: yields requests, is sent replies, returns a result."""


@dataclass
class Counters:
    """What the engine has spent so far; `tokens` are those of forwards."""

    forwards: int = 0
    tokens: int = 0
    flops: int = 0
    batches: int = 0
    seconds: float = 0.0


@dataclass(eq=False)
class _Pending:
    """A request on its way: rows still missing, and the answers to those that came back."""

    task: Task
    done: Callable[[Any], None]
    request: Request
    missing: int
    places: list[np.ndarray] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    forwards: float = 0.0


class _Batch(NamedTuple):
    """A batch on its way; `landed` is complete once `clock` has been read."""

    program: Program
    length: int
    entries: list[Entry]
    pieces: list[Rows]
    landed: Any
    clock: Clock
    forwards: int


class Engine:
    """Runs tasks against one model on one device. Not thread-safe: one thread owns it."""

    def __init__(self, model: Model, *, tokens_per_batch: int | None = None):
        """`tokens_per_batch`: the budget of a batch; None begins with the device's and finds for
        each program how far larger ones are faster.

        A program whose batches do not fit into memory has its own halved, without losing work.
        """
        self.model = model
        on_cpu = model.device.type == "cpu"
        self.tokens_per_batch = tokens_per_batch or (2352 if on_cpu else 32768)
        most = 4 * self.tokens_per_batch if on_cpu else None  # a CPU does not say what fits
        self._budgets: defaultdict[Program, Budget] = defaultdict(
            lambda: Budget(self.tokens_per_batch, growing=tokens_per_batch is None, most=most)
        )
        self.counters = Counters()
        self._pools: dict[tuple[Program, int], Pool] = {}
        self._current: Any = None
        self._flops_per_row: defaultdict[Program, dict[int, float]] = defaultdict(dict)
        self._in_flight = 0
        self._launched: deque[_Batch] = deque()
        self._depth = 1 if on_cpu else 2
        if on_cpu:
            keep_freed_memory()

    def window(self, rows_per_request: int, tokens_per_row: int) -> int:
        """Images to keep in flight so that two batches are always pooled, at least 2."""
        pooled = max(1, rows_per_request * tokens_per_row)
        return max(2, min(256, -(-2 * self.tokens_per_batch // pooled)))

    def run(self, tasks: Iterable[Task], *, in_flight: int) -> Iterator[Any]:
        """Results of all tasks, as they finish, with at most `in_flight` under way."""
        source, results = iter(tasks), deque()
        exhausted = False
        while True:
            while not exhausted and self._in_flight < in_flight:
                task = next(source, None)
                exhausted = task is None
                if task is not None:
                    self.add(task, results.append)
            while results:
                yield results.popleft()
            if not self.step() and exhausted and not self._in_flight:
                yield from results
                return

    def add(self, task: Task, done: Callable[[Any], None]) -> None:
        """Take on a task; `done` is called with what it returns."""
        self._in_flight += 1
        self._advance(task, done, None)

    def step(self) -> bool:
        """Launch a batch or settle one; False when nothing is asked for or under way.

        A GPU computes one batch while the answers of the one before are scattered.
        """
        if self._pools and len(self._launched) < self._depth:
            self._launch()
            if len(self._launched) < self._depth:
                return True
        if self._launched:
            self._settle(self._launched.popleft())
            return True
        return bool(self._pools)

    def _advance(self, task: Task, done: Callable, reply: Reply | Exception | None) -> None:
        """Resume a task with a reply (or an exception) and pool what it asks for next."""
        while True:
            try:
                failed = isinstance(reply, Exception)
                request = task.throw(reply) if failed else task.send(reply)  # type: ignore[arg-type]
            except StopIteration as stop:
                self._in_flight -= 1
                done(stop.value)
                return
            try:
                lengths = request.program.lengths(self.model, request.rows)
            except Exception as error:
                reply = error
                continue
            self._pool(_Pending(task, done, request, missing=len(request.rows)), lengths)
            return

    def _pool(self, pending: _Pending, lengths: int | np.ndarray) -> None:
        every = np.arange(pending.missing)
        if isinstance(lengths, int):
            parts = [(lengths, every)]
        else:
            parts = [(int(length), every[lengths == length]) for length in np.unique(lengths)]
        for length, places in parts:
            key = (pending.request.program, max(1, length))
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = Pool()
            pool.put(Entry(pending, places))

    def _launch(self) -> None:
        if self._current not in self._pools:
            self._current = max(self._pools, key=lambda key: self._pools[key].rows * key[1])
        program, length = self._current
        pool = self._pools[self._current]
        entries = pool.take(max(1, self._budgets[program].tokens // length))
        if not pool.entries:
            del self._pools[self._current]
        pieces = [_piece(entry) for entry in entries]
        clock, before = Clock(self.model.device), self.counters.forwards
        try:
            landed = self._run(program, length, pieces)
        except Exception as error:
            self._failed(program, length, entries, error)
            return
        spent = self.counters.forwards - before
        batch = _Batch(program, length, entries, pieces, landed, clock.stop(), spent)
        self._launched.append(batch)

    def _run(self, program: Program, length: int, pieces: list[Rows]) -> Any:
        counted = self._flops_per_row[program]
        rows = sum(map(len, pieces))
        if length not in counted and len(counted) < 3:  # counting slows a batch down
            with FlopCounterMode(display=False, custom_mapping=COUNTED) as flops:
                landed = program.launch(self.model, pieces, self._spent)
            counted[length] = flops.get_total_flops() / rows
        else:
            landed = program.launch(self.model, pieces, self._spent)
        self.counters.flops += round(rows * quadratic(counted, length))
        return landed

    def _spent(self, forwards: int) -> None:
        self.counters.forwards += forwards

    def _settle(self, batch: _Batch) -> None:
        seconds = batch.clock.seconds()
        sizes = [len(entry.places) for entry in batch.entries]
        rows, counters = sum(sizes), self.counters
        counters.batches += 1
        counters.tokens += rows * batch.length if batch.forwards else 0
        counters.seconds += seconds
        self._budgets[batch.program].settled(rows * batch.length, seconds)
        try:
            answers = batch.program.answer(batch.landed, batch.pieces)
        except Exception as error:
            self._failed(batch.program, batch.length, batch.entries, error)
            return
        for entry, size, answer in zip(batch.entries, sizes, answers, strict=True):
            pending: _Pending = entry.pending
            pending.seconds += seconds * size / rows
            pending.tokens += size * batch.length if batch.forwards else 0
            pending.forwards += batch.forwards * size / rows
            pending.missing -= size
            pending.answers.append(answer)
            pending.places.append(entry.places)
            if not pending.missing:
                self._advance(pending.task, pending.done, _reply(pending))

    def _failed(
        self, program: Program, length: int, entries: list[Entry], error: Exception
    ) -> None:
        """Out of memory: halve the program's budget and pool the rows again. Else tell tasks."""
        rows = sum(len(entry.places) for entry in entries)
        if rows > 1 and _is_out_of_memory(error):
            self._budgets[program].halve(length * rows)
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            pool = self._pools.setdefault((program, length), Pool())
            for entry in reversed(entries):
                pool.put(entry, front=True)
            return
        for pending in dict.fromkeys(entry.pending for entry in entries):
            if pending.missing < 0:  # told before, of another of its batches
                continue
            for key in list(self._pools):  # the rest of a failed request is not computed
                self._pools[key].drop(pending)
                if not self._pools[key].entries:
                    del self._pools[key]
            pending.missing = -1  # nor is what is under way waited for
            self._advance(pending.task, pending.done, error)


def _piece(entry: Entry) -> Rows:
    rows = entry.pending.request.rows
    return rows if len(entry.places) == len(rows) else rows.take(entry.places)


def _reply(pending: _Pending) -> Reply:
    answers, places = pending.answers, pending.places
    answer = answers[0]
    if len(answers) > 1:
        answer = pending.request.program.join(answers, np.concatenate(places).argsort())
    return Reply(answer, pending.seconds, pending.tokens, pending.forwards)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
