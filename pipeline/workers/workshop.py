"""What the cells of a sweep share: a run directory's lock, one Ray, one model and its actors."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from pipeline import RunError, UsageError, studies
from pipeline.build import load, model_settings
from pipeline.engine import Counters
from pipeline.lock import Lock
from pipeline.models import Model
from pipeline.progress import Progress, ending
from pipeline.rows import RunDir, Storage
from pipeline.workers.backlog import Backlog
from pipeline.workers.cluster import LostError, session
from pipeline.workers.commit import committing
from pipeline.workers.crew import Crew
from pipeline.workers.driver import Driver
from pipeline.workers.families import Selection, selected
from pipeline.workers.lease import Cell
from pipeline.workers.outcome import Outcome, Rows, counted, lost
from pipeline.workers.resume import Stamps, resumed
from pipeline.workers.stop import Stop
from pipeline.workers.until import Until, until_of

SCAN_S = 0.5
Settings = Mapping[str, Any]
Accepted = Callable[[Sequence[Settings], bool], None]
"""Told the settings of an `out` that are known to work so far, and whether it was told of some
before."""
Outcomes = dict[str, Outcome]
"""By the name of a cell."""


class Workshop:
    """A context in which cells of one study are completed: Ray is started once, when something is
    to be computed, and a model's actors serve all of its cells."""

    def __init__(self, study: str, stop: Stop, *, accepted: Accepted, fail_fast: bool, keep: bool):
        """`keep`: actors are not ended with the cells that are known now, more will come."""
        self.study, self.stop, self.accepted = study, stop, accepted
        self.fail_fast, self.keep = fail_fast, keep
        self.passes: list[Outcome] = []
        """Of the cells of one model and `out` together, those that computed anything."""
        self.counted = Rows()
        self._stack, self._locked = ExitStack(), ExitStack()
        self._lock: Lock
        self._out: str | None = None
        self._known: list[Settings] = []
        self._model: tuple[str, Model] | None = None
        self._crew: Crew | None = None
        self._joined = False
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._locked)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._dismiss()
        finally:
            self._stack.__exit__(kind, error, trace)

    def complete(self, named: Mapping[str, Settings]) -> Outcomes:
        """Compute the rows that cells lack, given by name; what goes wrong with one is told in its
        outcome. Raises LostError where nothing more can be done."""
        groups: dict[tuple[str, str], dict[str, Settings]] = {}
        for name, settings in named.items():
            key = (settings["out"], model_settings(settings))
            groups.setdefault(key, {})[name] = settings
        found: Outcomes = {}
        for (out, model), cells in sorted(groups.items(), key=lambda item: item[0][0]):
            if self.fail_fast and any(one.trouble for one in found.values()):
                break
            try:
                found |= self._pass(out, model, cells)
            except LostError:
                raise
            except (UsageError, RunError) as error:
                self._dismiss()
                found |= {name: Outcome(error=error) for name in cells if name not in found}
        return {name: found[name] for name in named if name in found}

    def hold(self, settings: Settings) -> None:
        """Hold the lock of a run directory, that of these settings alone."""
        out = settings["out"]
        if out != self._out:
            self._dismiss()
            self._locked.close()
            self._out, self._known = None, []
            lock = Lock(Storage(out), wait_s=settings["lock"]["wait_s"], say=_say)
            self._lock = self._locked.enter_context(lock)
            self._out = out

    def total(self) -> Outcome:
        """All that was done here."""
        counters = Counters()
        for one in self.passes:
            for name, value in vars(one.counters).items():
                setattr(counters, name, getattr(counters, name) + value)
        return Outcome(
            images=max((one.images for one in self.passes), default=0),
            computed=sum(one.computed for one in self.passes),
            rows=sum(one.rows for one in self.passes),
            failures=sum((Counter(one.failures) for one in self.passes), Counter()),
            counters=counters,
            seconds=sum(one.seconds for one in self.passes),
            remarks=self.passes[-1].remarks if self.passes else (),
            counted=self.counted,
        )

    def _pass(self, out: str, model: str, asked: Mapping[str, Settings]) -> Outcomes:
        """Cells of one model and one run directory."""
        self._stop_early()
        if self._model is None or self._model[0] != model:
            self._dismiss()
            self._model = None
            self._model = (model, load(next(iter(asked.values())), "cpu"))
        found: Outcomes = {}
        cells: dict[int, Cell] = {}
        for name, settings in asked.items():
            try:
                work = studies.build(self.study, settings, model=self._model[1])
                work.check()
            except UsageError as error:
                found[name] = Outcome(error=error)
                if self.fail_fast:
                    return found
            else:
                cells[next(self._numbers)] = Cell(name=name, settings=settings, work=work)
        selections, refused = selected(cells)
        found |= {cells.pop(number).name: Outcome(error=e) for number, e in refused.items()}
        if not cells or (self.fail_fast and found):
            return found
        self.hold(next(iter(cells.values())).settings)
        self.accepted(
            [*self._known, *(cell.settings for cell in cells.values())], bool(self._known)
        )
        self._known += [cell.settings for cell in cells.values()]
        return found | self._complete(cells, selections)

    def _complete(self, cells: dict[int, Cell], selections: Sequence[Selection]) -> Outcomes:
        """Compute the rows that are not committed yet."""
        first = next(iter(cells.values()))
        place = RunDir(first.settings["out"], first.work.kind)
        until = until_of(place, list(cells.values()), self.stop)
        retry = first.settings["retry"] == "failed"
        works = {number: cell.work for number, cell in cells.items()}
        living = self._crew.members if self._crew else ()
        with committing(place.out):
            backlog, stamps = resumed(
                place, works, selections, retry=retry, say=_say, living=living
            )
            before = set(place.sealed())
        scan = threading.Thread(target=backlog.scan, args=(stamps.see,), name="index", daemon=True)
        scan.start()
        some = backlog.wait()
        self._stop_early()
        found = backlog.found
        if not some:
            with committing(place.out):
                stamps.keep()
            _say(f"{place.out}: {found.rows} of {found.rows} rows are there; nothing to compute")
        if not some or (until is not None and until.look().verdict is not None):
            rows = counted(place, backlog, before)
            self.counted += rows[0]
            remarks = [until.end().text()] if until else []
            return self._outcomes(cells, backlog, rows, None, remarks, enough=until is not None)
        scan.join(timeout=SCAN_S)  # most data sets are indexed by then
        there = f"{found.rows - found.missing_rows} of {found.rows} rows"
        todo = f"computing {found.missing_rows} rows of {found.missing_images} images"
        more = "" if backlog.complete else " (shards are still being indexed)"
        _say(f"{place.out}: {there} are there; {todo}{more}")
        driver, seconds = self._driven(cells, backlog, stamps, until)
        with committing(place.out):
            rows = counted(place, backlog, before)
        self.counted += rows[0]
        spent, error = driver.crew.spent, None
        enough = until is not None and until.decided
        if not driver.finished and not enough:
            error = RunError(
                f"stopped by {self.stop.reason}: {driver.schedule.done} of {found.missing_images} "
                "images are done and stay; run the same command to do the rest"
            )
        total = Outcome(
            images=found.images,
            computed=driver.schedule.done,
            rows=found.missing_rows,
            failures=spent.failures,
            counters=spent.counters,
            seconds=seconds,
            remarks=[*ending(driver.last), *([until.end().text()] if until else [])],
            counted=rows[0],
            error=error,
        )
        self.passes.append(total)
        return self._outcomes(cells, backlog, rows, driver, enough=enough)

    def _driven(
        self, cells: dict[int, Cell], backlog: Backlog, stamps: Stamps, until: Until | None
    ) -> tuple[Driver, float]:
        """A driver that has done all it could, and the seconds that it took."""
        first, started = next(iter(cells.values())), time.monotonic()
        out = first.settings["out"]
        with Progress(out) as progress:
            if not self._joined:
                self._stack.enter_context(session(first.settings["cluster"], progress.say))
                self._joined = True
            self.stop.again()
            self._stop_early()
            if until is not None:
                until.begin()
            stop, take = (until, until.take) if until is not None else (self.stop, Backlog.take)
            driver = Driver(cells, backlog, progress, self._check(cells, backlog), stop, take)
            self._driver, crew, self._crew = driver, self._crew, None
            driver.evaluate(crew, keep=self.keep)
            if self.keep and driver.finished:
                self._crew = driver.crew
            with committing(out):
                stamps.keep()
        return driver, time.monotonic() - started

    def _check(self, cells: Mapping[int, Cell], backlog: Backlog) -> Callable[[], None]:
        """What is looked at again and again: the lock, and with `fail_fast` how many rows fail."""

        def check() -> None:
            self._lock.check()
            if not self.fail_fast or not backlog.complete:
                return
            for number, cell in cells.items():
                failed = self._driver.crew.spent.tally(number).failures.total()
                if failed > cell.settings["max_failed"] * backlog.of[number].missing_rows:
                    self.stop.ask(f"sweep.fail_fast, since too many rows of {cell.name} failed")

        return check

    def _outcomes(
        self,
        cells: Mapping[int, Cell],
        backlog: Backlog,
        rows: tuple[Rows, dict[int, Rows]],
        driver: Driver | None,
        remarks: Sequence[str] = (),
        *,
        enough: bool,
    ) -> Outcomes:
        """Of each cell; where there is but one, it has spent everything. `enough`: the rows that
        are there answer what was asked, others may be missing."""
        found: Outcomes = {}
        total = self.passes[-1] if driver else Outcome(remarks=remarks)
        for number, cell in cells.items():
            count, mine = backlog.of[number], rows[1][number]
            tally = driver.crew.spent.tally(number) if driver else None
            counters = Counters(forwards=round(tally.forwards)) if tally else Counters()
            found[cell.name] = Outcome(
                images=count.images,
                computed=count.missing_images if driver and driver.finished else total.computed,
                rows=count.missing_rows,
                failures=tally.failures if tally else {},
                counters=total.counters if len(cells) == 1 else counters,
                seconds=total.seconds,
                remarks=total.remarks,
                counted=mine,
                fingerprints=cell.work.fingerprints,
                max_failed=cell.settings.get("max_failed", 1.0),
                error=None if enough or mine.there == mine.expected else total.error or lost(mine),
            )
        return found

    def _dismiss(self) -> None:
        """End the actors that are kept, if any."""
        if self._crew is not None:
            self._crew.close(list(self._crew.members.values()))
            self._crew.tidy()
            self._crew.kill()
            self._crew = None

    def _stop_early(self) -> None:
        if self.stop.reason is not None:
            raise RunError(
                f"stopped by {self.stop.reason} before work began; run the same command again"
            )


def _say(text: str) -> None:
    print(text, flush=True)
