"""What a run tells while it works: a bar or lines for people, <out>/progress.json for dashboards.

Forwards measure progress, those of images under way too; images count what is safe. The time to go
is a span, as wide as the recent rates of the run differ.
"""

import json
import logging
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any, Self, TextIO

from tqdm import tqdm

from pipeline import UsageError
from pipeline.engine import Counters
from pipeline.failures import grouped, reasons
from pipeline.redaction import redacted
from pipeline.rows import Storage

logger = logging.getLogger(__name__)

SECONDS_PER_LINE = 10.0
AT_FIRST = 4.0
"""Seconds a line in the first minute, when one does not know yet whether it works."""
RATES = 12
"""Spans of SECONDS_PER_LINE / 2 from which rate and spread are taken."""
SHOWN = 3
"""Workers that are each named at the end."""
SLOW = 30.0
"""Seconds in flight from which an image is worth a word, if most take a third of that or less."""


@dataclass(frozen=True, kw_only=True)
class ActorStatus:
    """One worker. `images`: done; `busy`: engine seconds over wall seconds, 0 to 1; `state`:
    starting, working, draining or silent."""

    name: str
    node: str = ""
    images: int = 0
    in_flight: int = 0
    images_per_s: float = 0.0
    busy: float = 0.0
    state: str = "working"


@dataclass(frozen=True, kw_only=True)
class CellStatus:
    """One combination of a sweep: the rows that are computed for it, those that are safe and those
    of them that failed."""

    name: str
    rows: int = 0
    done: int = 0
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run is. `images`: to compute, so far as is `known`; `failures`: rows by reason;
    `forwards`: expected in all; `slowest`: shard/key and its seconds in flight; `cells`: of a
    sweep."""

    images: int
    known: bool = True
    done: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    in_flight: int = 0
    forwards: int = 0
    counters: Counters = field(default_factory=Counters)
    actors: Sequence[ActorStatus] = ()
    slowest: tuple[str, float] | None = None
    cells: Sequence[CellStatus] = ()


class Progress:
    """A bar on a terminal, else lines: at once when something first happens, then every ten
    seconds, none twice. Tell it a Status at least every few seconds; it never waits."""

    def __init__(
        self,
        out: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        stream: TextIO | None = None,
    ):
        """`out`: the run directory that gets progress.json."""
        self._place = None if out is None else Storage(out)
        self._clock, self._stream = clock, stream or sys.stderr
        self._started = clock()
        self._told = self._written = -SECONDS_PER_LINE
        self._line = ""
        self._stage, self._over = "", False
        self._pace = Pace()
        self._status = Status(images=0)
        self._bar: Any = None

    def __call__(self, status: Status) -> None:
        """Tell how far the run is."""
        now = self._clock()
        stage = _stage(status)
        first, self._stage = stage != self._stage, stage
        self._status = status
        self._pace.add(now, status.counters.forwards)
        if self._stream.isatty():
            self._draw(status)
        elif first or now - self._told >= self._pause(now):
            self._tell(now)
        if first or now - self._written >= SECONDS_PER_LINE:
            self._write(now, "running")

    def say(self, text: str) -> None:
        """A line of its own, such as "starting Ray ..."."""
        tqdm.write(text, file=self._stream)
        self._stream.flush()
        self._told = self._clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        now = self._clock()
        if self._bar is not None:
            self._bar.close()
        elif self._stage and not self._over:
            self._tell(now)
        done = self._status.done >= self._status.images
        ended = "finished" if done and error is None else "stopped" if _asked(error) else "failed"
        self._write(now, ended)

    def _pause(self, now: float) -> float:
        return AT_FIRST if now - self._started < 60 else SECONDS_PER_LINE

    def _tell(self, now: float) -> None:
        line, self._told = text(self._status, self._pace), now
        if not self._status.counters.forwards:
            line += f", {now - self._started:.0f} s so far"
        self._over = self._status.known and self._status.done >= self._status.images
        if line != self._line:
            self._line = line
            print(line, file=self._stream, flush=True)

    def _draw(self, status: Status) -> None:
        if self._bar is None:
            self._bar = tqdm(file=self._stream, unit="fwd", unit_scale=True, dynamic_ncols=True)
        self._bar.total = max(status.forwards, 1)
        self._bar.n = min(status.counters.forwards, self._bar.total)
        self._bar.set_description(_images(status), refresh=False)
        self._bar.set_postfix_str(", ".join(_remarks(status)), refresh=False)
        self._bar.refresh()

    def _write(self, now: float, state: str) -> None:
        """An error here never fails a run."""
        self._written = now
        if self._place is None:
            return
        told = report(self._status, self._pace, state) | {"seconds": round(now - self._started, 1)}
        try:
            path = self._place.path("progress.json")
            self._place.write(path, json.dumps(redacted(told), indent=1).encode())
        except Exception as error:
            logger.debug("progress.json: %s", error)


class Pace:
    """Forwards a second of late, and how much that varies."""

    def __init__(self):
        self._marks: deque[tuple[float, int]] = deque(maxlen=RATES + 1)
        self._last = (0.0, 0)

    def add(self, now: float, forwards: int) -> None:
        """So many forwards are done."""
        self._last = (now, forwards)
        if not self._marks or now - self._marks[-1][0] >= SECONDS_PER_LINE / 2:
            self._marks.append(self._last)

    @property
    def rate(self) -> float:
        """Forwards a second over the last minute, from the first forward on."""
        marks = self._working()
        seconds = self._last[0] - marks[0][0]
        return max(0, self._last[1] - marks[0][1]) / seconds if seconds > 0 else 0.0

    def to_go(self, forwards: int) -> tuple[float, float] | None:
        """Seconds at the least and at the most until so many are done: the mean of recent rates,
        plus and minus two of its standard errors, at least 5 %. None while there is no telling."""
        rate, spread = self.rate, 0.5
        if not rate:
            return None
        marks = self._working()
        rates = [(n1 - n0) / (t1 - t0) for (t0, n0), (t1, n1) in pairwise(marks)]
        if len(rates) > 2:
            error = statistics.stdev(rates) / len(rates) ** 0.5
            spread = min(0.5, max(0.05, 2 * error / rate))
        left = max(0, forwards - self._last[1])
        return left / (rate * (1 + spread)), left / (rate * (1 - spread))

    def _working(self) -> list[tuple[float, int]]:
        """Marks without those before the first forward, but for the last of them."""
        marks = list(self._marks) or [self._last]
        while len(marks) > 1 and marks[1][1] == 0:
            marks.pop(0)
        return marks


def text(status: Status, pace: Pace) -> str:
    """One line of it all."""
    if not status.known and not status.counters.forwards:
        return f"indexing shards: {status.images} images found"
    rate, span = pace.rate, pace.to_go(status.forwards)
    speed = [f"{_share(status):.0f} %", f"{rate:.0f} forwards/s"] if rate else []
    left = []
    if status.done < status.images and status.known:
        left = [f"{spoken(*span)} to go"] if span else [_beginning(status)]
    return ", ".join([_images(status), *speed, *left, *_remarks(status)])


def report(status: Status, pace: Pace, state: str) -> dict[str, Any]:
    """What progress.json holds; README explains the keys."""
    span = pace.to_go(status.forwards) if state == "running" else None
    return {
        "state": state,
        "images": status.images,
        "known": status.known,
        "done": status.done,
        "in_flight": status.in_flight,
        "failed_rows": sum(status.failures.values()),
        "failures": dict(reasons(status.failures)),
        "forwards": status.forwards,
        "share": round(_share(status) / 100, 4),
        "forwards_per_s": round(pace.rate, 2),
        "to_go_s": None if span is None else [round(seconds, 1) for seconds in span],
        "spent": asdict(status.counters),
        "slowest": None if status.slowest is None else list(status.slowest),
        "actors": [asdict(actor) for actor in status.actors],
        **({"cells": [asdict(cell) for cell in status.cells]} if status.cells else {}),
    }


def ending(status: Status) -> list[str]:
    """Lines for the end of a run: how busy each worker was, and why rows failed."""
    lines = []
    busy = sorted((actor.busy, actor.name, actor.node) for actor in status.actors)
    if len(busy) > SHOWN:
        worst, middle, best = busy[0], statistics.median(b[0] for b in busy), busy[-1]
        lines.append(
            f"engines busy {worst[0]:.0%} to {best[0]:.0%} of the time, median {middle:.0%}; "
            f"the least: {_where(*worst[1:])}"
        )
    elif busy:
        each = [f"{share:.0%} ({_where(*where)})" for share, *where in busy]
        lines.append(f"engines busy {', '.join(each)} of the time")
    if status.failures:
        lines.append(f"{sum(status.failures.values())} rows failed: {grouped(status.failures)}")
    return lines


def spoken(low_s: float, high_s: float) -> str:
    """A span of time as one would say it: "3 to 4 min"."""
    unit, name = next(((u, n) for u, n in ((3600, "h"), (60, "min")) if high_s >= 2 * u), (1, "s"))
    low, high = round(low_s / unit), max(1, round(high_s / unit))
    return f"{high} {name}" if low == high else f"{low} to {high} {name}"


def _stage(status: Status) -> str:
    """A new word where something happens for the first time."""
    begun = [status.known, status.in_flight > 0 or status.done > 0, status.counters.forwards > 0]
    begun += [status.done > 0, bool(status.failures), status.done >= status.images > 0]
    return "".join("01"[bool(b)] for b in begun)


def _beginning(status: Status) -> str:
    starting = sum(actor.state == "starting" for actor in status.actors)
    return f"{starting} workers starting" if starting else "no forward yet"


def _images(status: Status) -> str:
    total = f"{status.images}" if status.known else f"{status.images} or more"
    return f"{status.done}/{total} images, {status.in_flight} in flight"


def _share(status: Status) -> float:
    """Per cent; a hundred only when every image is done."""
    if status.known and status.done >= status.images:
        return 100.0
    return min(99.0, 100 * status.counters.forwards / max(1, status.forwards))


def _remarks(status: Status) -> list[str]:
    """What is out of the ordinary."""
    said = []
    if status.cells:
        done = sum(cell.done >= cell.rows for cell in status.cells)
        said.append(f"{done}/{len(status.cells)} cells")
    if status.failures:
        said.append(f"{sum(status.failures.values())} rows failed: {grouped(status.failures)}")
    if silent := sum(actor.state == "silent" for actor in status.actors):
        said.append(f"{silent} of {len(status.actors)} workers silent")
    if status.slowest and status.slowest[1] > max(SLOW, 3 * _usual(status)):
        said.append(f"{status.slowest[0]} takes {status.slowest[1]:.0f} s so far")
    return said


def _usual(status: Status) -> float:
    """Seconds that an image is in flight: those in flight over those that end each second."""
    rate = sum(actor.images_per_s for actor in status.actors)
    return status.in_flight / rate if rate else float("inf")


def _where(name: str, node: str) -> str:
    return f"{name} on {node}" if node else name


def _asked(error: BaseException | None) -> bool:
    """Whether somebody, not a fault, ended the run; one that nothing ended lacks images only."""
    return error is None or isinstance(error, KeyboardInterrupt | SystemExit | UsageError)
