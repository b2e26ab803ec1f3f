"""Continuous batching: many images' coroutines in, device batches out, answers scattered back.

Whatever the images in flight ask for is pooled; rows of one masking and one length form batches
under a token budget, so nothing is padded. A pool is drained before the next, the largest, is
begun: images at the same step of a greedy search stay in step, and their batches stay full.
"""

import ctypes
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.masking import Masking
from pipeline.methods import Outputs
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class Query:
    """Coalitions of one prepared image, to be read out for `classes`."""

    masking: Masking
    prepared: Any
    coalitions_CN: Tensor
    classes: tuple[int, ...]


class Program(Protocol):
    """A batched computation that is no set game: heatmaps, masks. Equal programs share batches."""

    def tokens(self, model: Model) -> int:
        """What a row weighs in the budget, activations kept for gradients included."""
        ...

    def run(self, model: Model, rows: list[Any], spent: Callable[[int], None]) -> list[Any]:
        """An answer on the CPU for each row; tells `spent` of forwards as they are done."""
        ...


@dataclass(frozen=True, kw_only=True)
class ProgramQuery:
    """Rows of one image for a program; answered by (their answers, device seconds)."""

    program: Program
    rows: Sequence[Any]


Task = Generator[Query | ProgramQuery, Any, Any]
"""One image's work: yields queries, is sent their answers, returns a result."""


@dataclass
class Counters:
    """What the engine has spent so far."""

    forwards: int = 0
    tokens: int = 0
    flops: int = 0
    batches: int = 0
    seconds: float = 0.0


@dataclass(eq=False)
class _Answer:
    """A query on its way: rows still missing, and where answered rows go."""

    task: Task
    done: Callable[[Any], None]
    query: Query | ProgramQuery
    missing: int
    n_classes: int = 0
    readout: Tensor | None = None
    rows: dict[int, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(eq=False)
class _Group:
    """Rows that may share a batch: same masking and length, or same program."""

    length: int
    rows: int = 0
    entries: deque = field(default_factory=deque)  # of (answer, row indices)

    def put(self, answer: _Answer, rows: Tensor, *, front: bool = False) -> None:
        self.rows += len(rows)
        (self.entries.appendleft if front else self.entries.append)((answer, rows))

    def drop(self, answer: _Answer) -> None:
        self.entries = deque(entry for entry in self.entries if entry[0] is not answer)
        self.rows = sum(len(rows) for _, rows in self.entries)

    def take(self, limit: int) -> list[tuple[_Answer, Tensor]]:
        taken = []
        while self.entries and limit:
            answer, rows = self.entries.popleft()
            self.rows -= len(rows)
            if len(rows) > limit:
                self.put(answer, rows[limit:], front=True)
                rows = rows[:limit]
            taken.append((answer, rows))
            limit -= len(rows)
        return taken


class _Clock:
    """Seconds between construction and `stop` as the device counts them."""

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._start = self._now()

    def stop(self) -> "_Clock":
        self._end = self._now()
        return self

    def seconds(self) -> float:
        """Waits for the device to get there."""
        if not self._cuda:
            return self._end - self._start
        self._end.synchronize()
        return self._start.elapsed_time(self._end) / 1e3

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


@dataclass(eq=False)
class _Batch:
    """A batch on its way; `readout` is complete once `clock` has been read."""

    length: int
    entries: list[tuple[_Answer, Tensor]]
    readout: Tensor
    clock: _Clock


class Engine:
    """Runs tasks against one model on one device. Not thread-safe: one thread owns it."""

    def __init__(self, model: Model, *, tokens_per_batch: int | None = None):
        """`tokens_per_batch`: the budget; None chooses it from the device.

        It is halved, without losing work, where memory does not suffice.
        """
        self.model = model
        on_cpu = model.device.type == "cpu"
        self.tokens_per_batch = tokens_per_batch or (2352 if on_cpu else 32768)
        self._growing = tokens_per_batch is None and not on_cpu
        self._best_rate = 0.0
        self.counters = Counters()
        self._groups: defaultdict[Any, _Group] = defaultdict(lambda: _Group(0))
        self._current: Any = None
        self._flops_per_row: defaultdict[Any, dict[int, float]] = defaultdict(dict)
        self._in_flight = 0
        self._launched: deque[_Batch] = deque()
        self._depth = 1 if on_cpu else 2
        if on_cpu:
            keep_freed_memory()

    def window(self, rows_per_query: int, tokens_per_row: int) -> int:
        """Images to keep in flight so that two batches are always pooled, at least 2."""
        pooled = max(1, rows_per_query * tokens_per_row)
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
            yield from _drain(results)
            if not self.step() and exhausted and not self._in_flight:
                yield from _drain(results)
                return

    def add(self, task: Task, done: Callable[[Any], None]) -> None:
        """Take on a task; `done` is called with what it returns."""
        self._in_flight += 1
        self._advance(task, done, None)

    def step(self) -> bool:
        """Launch a batch or settle one; False when nothing is asked for or under way.

        A GPU computes one batch while the answers of the one before are scattered.
        """
        if self._groups and len(self._launched) < self._depth:
            self._launch()
            if len(self._launched) < self._depth:
                return True
        if self._launched:
            self._settle(self._launched.popleft())
            return True
        return bool(self._groups)

    def _launch(self) -> None:
        if self._current not in self._groups:
            self._current = max(
                self._groups, key=lambda k: self._groups[k].rows * self._groups[k].length
            )
        key, group = self._current, self._groups[self._current]
        entries = group.take(max(1, self.tokens_per_batch // group.length))
        if not group.entries:
            del self._groups[key]
        clock = _Clock(self.model.device)
        try:
            readout = self._forward(key, entries)
        except Exception as error:
            self._failed(key, group, entries, error)
            return
        if isinstance(entries[0][0].query, ProgramQuery):
            self._hand_out(group.length, entries, readout, clock.stop().seconds())
        else:
            batch = _Batch(group.length, entries, _to_host(readout), clock.stop())
            self._launched.append(batch)

    def _settle(self, batch: _Batch) -> None:
        seconds = batch.clock.seconds()
        rows = len(batch.readout)
        if self._growing and rows * batch.length > 0.9 * self.tokens_per_batch:
            self._grow(rows * batch.length / seconds)
        self._scatter(batch.length, batch.entries, batch.readout, seconds)

    def _grow(self, tokens_per_second: float) -> None:
        """Double the budget for as long as full batches of it are at least 5 % faster per token."""
        if tokens_per_second > 1.05 * self._best_rate:
            self._best_rate = tokens_per_second
            self.tokens_per_batch *= 2
        else:
            self._growing = False

    def _advance(self, task: Task, done: Callable, answer: Any) -> None:
        """Resume a task with an answer (or an exception) and pool what it asks for next."""
        try:
            query = task.throw(answer) if isinstance(answer, Exception) else task.send(answer)
        except StopIteration as stop:
            self._in_flight -= 1
            done(stop.value)
            return
        if isinstance(query, ProgramQuery):
            length = query.program.tokens(self.model)
            group = self._groups[(query.program, length)]
            group.length = length
            rows = torch.arange(len(query.rows))
            group.put(_Answer(task, done, query, missing=len(rows)), rows)
            return
        pending = _Answer(task, done, query, missing=len(query.coalitions_CN))
        lengths_C = query.masking.lengths(self.model, query.prepared, query.coalitions_CN)
        for length in lengths_C.unique().tolist():
            group = self._groups[(query.masking, length)]
            group.length = max(1, length)
            group.put(pending, (lengths_C == length).nonzero().flatten())

    def _forward(self, key: Any, entries: list[tuple[_Answer, Tensor]]) -> Any:
        """Answers to all entries' rows: read-outs (B, R) on the device, or a program's list."""
        kind, length = key
        rows = sum(len(rows) for _, rows in entries)
        counted = self._flops_per_row[kind]
        if length not in counted and len(counted) < 3:  # counting slows a batch down
            with FlopCounterMode(display=False) as flops:
                result = self._compute(entries)
            counted[length] = flops.get_total_flops() / rows
        else:
            result = self._compute(entries)
        self.counters.flops += round(rows * _quadratic(counted, length))
        return result

    def _compute(self, entries: list[tuple[_Answer, Tensor]]) -> Any:
        query = entries[0][0].query
        if isinstance(query, ProgramQuery):
            asked = [answer.query.rows[i] for answer, rows in entries for i in rows.tolist()]
            return query.program.run(self.model, asked, self._spent)
        parts = [(a.query.prepared, a.query.coalitions_CN[rows]) for a, rows in entries]
        classes = [a.query.classes for a, rows in entries for _ in range(len(rows))]
        with torch.inference_mode():
            logits_BK = query.masking.logits(self.model, parts).float()
            for answer, _ in entries:
                answer.n_classes = logits_BK.shape[1]
            return read_out(logits_BK, classes)

    def _spent(self, forwards: int) -> None:
        self.counters.forwards += forwards

    def _hand_out(self, length: int, entries: list, answers: list[Any], seconds: float) -> None:
        """Give a program's answers to those who asked."""
        self.counters.batches += 1
        self.counters.tokens += len(answers) * length
        self.counters.seconds += seconds
        source = iter(answers)
        for answer, rows in entries:
            answer.rows.update((i, next(source)) for i in rows.tolist())
            answer.seconds += seconds * len(rows) / len(answers)
            answer.missing -= len(rows)
            if not answer.missing:
                found = [answer.rows[i] for i in range(len(answer.rows))]
                self._advance(answer.task, answer.done, (found, answer.seconds))

    def _scatter(self, length: int, entries: list, readout_BR: Tensor, seconds: float) -> None:
        counters, total = self.counters, len(readout_BR)
        counters.batches += 1
        counters.forwards += total
        counters.tokens += total * length
        counters.seconds += seconds
        start = 0
        for answer, rows in entries:
            part = readout_BR[start : start + len(rows)]
            start += len(rows)
            answer.seconds += seconds * len(rows) / total
            answer.missing -= len(rows)
            wide, widest = len(answer.query.classes), (part.shape[1] - 1) // 2
            if answer.readout is None:
                answer.readout = part.new_empty(len(answer.query.coalitions_CN), 2 * wide + 1)
            answer.readout[rows] = torch.cat(
                [part[:, :wide], part[:, widest : widest + wide], part[:, -1:]], 1
            )
            if not answer.missing:
                self._advance(answer.task, answer.done, _outputs(answer))

    def _failed(self, key: Any, group: _Group, entries: list, error: Exception) -> None:
        """Out of memory: halve the budget and pool the rows again. Else the tasks are told."""
        rows = sum(len(rows) for _, rows in entries)
        if rows > 1 and _is_out_of_memory(error):
            self.tokens_per_batch = max(1, group.length * rows // 2)
            self._growing = False
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            again = self._groups[key]
            again.length = group.length
            for answer, part in reversed(entries):
                again.put(answer, part, front=True)
            return
        for answer in {id(a): a for a, _ in entries}.values():
            for other in list(self._groups):  # the rest of a failed query is not computed
                self._groups[other].drop(answer)
                if not self._groups[other].entries:
                    del self._groups[other]
            self._advance(answer.task, answer.done, error)


def read_out(logits_BK: Tensor, classes: list[tuple[int, ...]]) -> Tensor:
    """(B, 2T + 1): logits and log-odds of each row's classes, then its prediction.

    Rows that ask for fewer classes repeat their first. Log-odds are z_t - logsumexp_{j != t} z_j,
    which does not saturate where the probability rounds to 1.
    """
    wide = max(map(len, classes))
    prediction_B = logits_BK.argmax(1, keepdim=True)
    if not wide:
        return prediction_B.float()
    padded = [c + (c or (0,))[:1] * (wide - len(c)) for c in classes]
    index_BT = torch.tensor(padded, device=logits_BK.device)
    logits_BT = logits_BK.gather(1, index_BT)
    rest_BT = torch.stack(
        [
            logits_BK.scatter(1, index_BT[:, t : t + 1], -torch.inf).logsumexp(1)
            for t in range(wide)
        ],
        1,
    )
    return torch.cat([logits_BT, logits_BT - rest_BT, prediction_B.float()], 1)


MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""Environment for a CPU process whose engine runs beside other threads: `keep_freed_memory` for all
of them, which can only be had before the first allocation."""


def keep_freed_memory() -> None:
    """Have glibc keep freed blocks: returning activations to the system after every layer halves a
    CNN's speed on a CPU (page faults). No effect on other C libraries."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):  # mmap, trim, top pad
            libc.mallopt(option, value)
    except (OSError, AttributeError):
        pass


def _outputs(answer: _Answer) -> Outputs:
    readout_CR = answer.readout
    assert readout_CR is not None
    wide = len(answer.query.classes)
    return Outputs(
        classes=answer.query.classes,
        logits_CT=readout_CR[:, :wide],
        log_odds_CT=readout_CR[:, wide:-1],
        prediction_C=readout_CR[:, -1].long(),
        seconds=answer.seconds,
        n_classes=answer.n_classes,
    )


def _quadratic(counted: dict[int, float], length: int) -> float:
    """FLOPs of a row, a quadratic in its length (attention is), through three counted lengths."""
    if length in counted:
        return counted[length]
    (a, fa), (b, fb), (c, fc) = counted.items()
    x = length
    return (
        fa * (x - b) * (x - c) / ((a - b) * (a - c))
        + fb * (x - a) * (x - c) / ((b - a) * (b - c))
        + fc * (x - a) * (x - b) / ((c - a) * (c - b))
    )


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _to_host(readout: Tensor) -> Tensor:
    """Start copying to pinned memory without waiting for the device."""
    if readout.device.type == "cpu":
        return readout
    host = torch.empty(readout.shape, dtype=readout.dtype, pin_memory=True)
    return host.copy_(readout, non_blocking=True)


def _drain(results: deque) -> Iterator[Any]:
    while results:
        yield results.popleft()
