"""A sweep from its first cell to its closing table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline import RunError, UsageError
from pipeline.components import component, one_line
from pipeline.report.text import ruled
from pipeline.rows import RunDir, Storage
from pipeline.rows.schema import Kind
from pipeline.sweep import Combination, Sweep, cells, named
from pipeline.sweep.adaptive import Adaptive
from pipeline.sweep.grid import combinations
from pipeline.workers import Outcome, Workshop, stop_of
from pipeline.workers.workshop import Accepted

Prepare = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Looks up what settings refer to; raises UsageError where it is not there."""
LONGEST = 100


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A cell and what became of it; no outcome where the sweep ended before."""

    cell: Combination
    outcome: Outcome | None = None

    @property
    def trouble(self) -> UsageError | RunError | None:
        """Why it is no success."""
        early = RunError("not begun") if self.outcome is None else self.outcome.trouble
        return self.cell.error or early


@dataclass(frozen=True, kw_only=True)
class Swept:
    """All cells, and the whole."""

    ended: Sequence[Ended]
    total: Outcome

    @property
    def status(self) -> int:
        """For the shell: 0 where every cell is complete, 2 where none could even begin."""
        troubles = [one.trouble for one in self.ended]
        if troubles and all(isinstance(trouble, UsageError) for trouble in troubles):
            return 2
        return int(any(troubles))

    def table(self) -> str:
        """A line a cell."""
        heads = ["cell", "images", "rows", "computed", "forwards", "failed", "status"]
        lines = []
        for one in self.ended:
            found, trouble = one.outcome or Outcome(), one.trouble
            said = "ok" if trouble is None else _short(f"error: {one_line(trouble)}")
            numbers = [
                f"{found.images}",
                f"{found.counted.there}/{found.counted.expected}",
                f"{found.rows}",
                f"{found.counters.forwards:,}",
                f"{found.failed_rows}",
            ]
            lines.append([one.cell.name, *numbers, said])
        return ruled(heads, lines)


def run(study: str, kind: Kind, sweep: Sweep, prepare: Prepare, accepted: Accepted) -> Swept:
    """Complete the cells of a sweep, all at once or as a search goes; what goes wrong with one is
    told beside it."""
    how = component(sweep.how, "sweep")
    runner = _Runner(study, kind, sweep, prepare, accepted, how.fail_fast)
    return runner.search(how) if how.adaptive else runner.grid()


class _Runner:
    def __init__(
        self,
        study: str,
        kind: Kind,
        sweep: Sweep,
        prepare: Prepare,
        accepted: Accepted,
        fail_fast: bool,
    ):
        self.study, self.kind, self.sweep = study, kind, sweep
        self.prepare, self.accepted, self.fail_fast = prepare, accepted, fail_fast

    def grid(self) -> Swept:
        """Every combination."""
        found = [self._composed(options) for options in combinations(self.sweep.axes)]
        good = {cell.name: cell.settings for cell in found if cell.error is None}
        bad = len(good) < len(found)
        if not good or (bad and self.fail_fast):
            return Swept(ended=[Ended(cell=cell) for cell in found], total=Outcome())
        with (
            stop_of(next(iter(good.values()))) as stop,
            Workshop(
                self.study, stop, accepted=self.accepted, fail_fast=self.fail_fast, keep=False
            ) as shop,
        ):
            outcomes = shop.complete(good)
        ended = [Ended(cell=cell, outcome=outcomes.get(cell.name)) for cell in found]
        _remember(ended)
        return Swept(ended=ended, total=shop.total())

    def search(self, how: Adaptive) -> Swept:
        """Trial after trial."""
        ended: list[Ended] = []
        first = next(self._ends())
        run = RunDir(first.settings["out"], self.kind)
        how.check(run, list(first.settings["methods"]))
        with (
            stop_of(first.settings) as stop,
            Workshop(
                self.study, stop, accepted=self.accepted, fail_fast=self.fail_fast, keep=True
            ) as shop,
        ):
            shop.hold(first.settings)

            def worth(options: Mapping[str, str]) -> float | None:
                print(f"trial: {named(options)}", flush=True)
                cell = self._composed(options)
                if cell.error is None and cell.settings["out"] != run.out:
                    error = UsageError("out differs between trials; give one out for all")
                    cell = replace(cell, error=error)
                outcome = None
                if cell.error is None:
                    outcome = shop.complete({cell.name: cell.settings})[cell.name]
                ended.append(Ended(cell=cell, outcome=outcome))
                trouble = ended[-1].trouble
                if stop.reason is not None or (trouble is not None and self.fail_fast):
                    raise trouble or RunError(
                        f"stopped by {stop.reason}; run the same command to go on"
                    )
                if trouble is not None:
                    print(f"error: {one_line(trouble)}", flush=True)
                if trouble is not None or outcome is None:
                    return None
                _remember(ended[-1:])
                return how.worth(run, outcome.fingerprints)

            for said in how.search(run.out, self.sweep.axes, first.settings, worth):
                print(said, flush=True)
        return Swept(ended=ended, total=shop.total())

    def _ends(self) -> Iterator[Combination]:
        """A cell that can be composed, at one of the ends of the axes. Raises its UsageError."""
        for place in (0, -1):
            ends = {}
            for axis in self.sweep.axes:
                span = axis.values or [axis.low, axis.high]
                ends[axis.option] = str(int(span[place]) if axis.whole else span[place])
            cell = self._composed(ends)
            if cell.error is None:
                yield cell
        raise cell.error or UsageError("no cell can be composed")

    def _composed(self, options: Mapping[str, str]) -> Combination:
        cell = self.sweep.compose(options)
        if cell.error is not None:
            return cell
        try:
            return replace(cell, settings=self.prepare(cell.settings))
        except UsageError as error:
            return replace(cell, error=error)


def _remember(ended: Sequence[Ended]) -> None:
    """Which cells their run directories hold."""
    places: dict[str, list[cells.Swept]] = {}
    for one in ended:
        if one.outcome is not None and one.outcome.fingerprints:
            swept = cells.Swept(dict(one.cell.options), dict(one.outcome.fingerprints))
            places.setdefault(one.cell.settings["out"], []).append(swept)
    for out, found in places.items():
        cells.add(Storage(out), found)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
