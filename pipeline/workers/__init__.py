"""The distributed run, and the only place that imports Ray.

The driver indexes shards and finds which rows are missing (`backlog`); a pure policy (`schedule`)
decides who computes which images and what becomes of them when workers fall. Actors decode ahead
of their engine, make rows durable in groups and seal their own parts (`line`); results never travel
through Ray. The driver holds counts, and the run directory's lock.
"""

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline import RunError, UsageError, studies
from pipeline.engine import Counters
from pipeline.lock import Lock
from pipeline.progress import Progress, ending
from pipeline.rows import RunDir, Storage
from pipeline.work import LOOKED_AT, Work
from pipeline.workers.backlog import Chosen
from pipeline.workers.cluster import session
from pipeline.workers.commit import committing
from pipeline.workers.driver import Driver
from pipeline.workers.resume import resumed
from pipeline.workers.stop import Stop
from pipeline.workers.until import Until

logger = logging.getLogger(__name__)

SCAN_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run did: images in the data set, images computed now, their rows, those that failed
    by reason, what was spent in how many seconds; lines on how it went. `fingerprints`: of the rows
    that were asked for, there before or not, by method."""

    images: int
    computed: int = 0
    rows: int = 0
    failures: Mapping[str, int] = field(default_factory=Counter)
    counters: Counters = field(default_factory=Counters)
    seconds: float = 0.0
    remarks: Sequence[str] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @property
    def failed_rows(self) -> int:
        """Of all reasons."""
        return sum(self.failures.values())

    def text(self) -> str:
        """What there is to say of it."""
        spent = self.counters
        first = (
            f"{self.computed} images in {self.seconds:.0f} s: {spent.forwards:,} forwards, "
            f"{spent.forwards / self.seconds:.0f} forwards/s, "
            f"{spent.flops / self.seconds / 1e9:,.0f} GFLOP/s, {self.failed_rows} rows failed"
        )
        return "\n".join([first, *self.remarks])


def run(
    study: str,
    settings: Mapping[str, Any],
    accepted: Callable[[Mapping[str, Any]], None] = lambda settings: None,
) -> Outcome:
    """Bring every requested row of a study into being: compute those that `out` lacks.

    `accepted` is told the settings once they are known to work. Raises UsageError for settings
    that cannot work, before any worker starts, and RunError where it ends early.
    """
    cluster = settings["cluster"]
    with Stop(cluster["time_limit_s"], grace_s=cluster["grace_s"]) as stop:
        work = studies.build(study, settings)
        work.check()
        chosen = _chosen(settings, work)
        with Lock(Storage(settings["out"]), wait_s=settings["lock"]["wait_s"], say=_say) as lock:
            accepted(settings)
            outcome = _complete(settings, work, chosen, lock, stop)
    return replace(outcome, fingerprints=work.fingerprints)


def _complete(
    settings: Mapping[str, Any], work: Work, chosen: Iterable[Chosen], lock: Lock, stop: Stop
) -> Outcome:
    """Compute the rows that are not committed yet."""
    place = RunDir(settings["out"], work.kind)
    until = _until(settings, place, work, stop)
    with committing(place.out):
        retry = settings["retry"] == "failed"
        backlog, stamps = resumed(place, work, chosen, retry=retry, say=_say)
    scan = threading.Thread(target=backlog.scan, args=(stamps.see,), name="index", daemon=True)
    scan.start()
    some = backlog.wait()
    _stop_early(stop)
    found = backlog.found
    if not some:
        with committing(place.out):
            stamps.keep()
        _say(f"{place.out}: {found.rows} of {found.rows} rows are there; nothing to compute")
        return Outcome(images=found.images)
    if until is not None and until.look().verdict is not None:
        return Outcome(images=found.images, remarks=[until.end().text()])
    scan.join(timeout=SCAN_S)  # most data sets are indexed by then
    there = f"{found.rows - found.missing_rows} of {found.rows} rows"
    todo = f"computing {found.missing_rows} rows of {found.missing_images} images"
    more = "" if backlog.complete else " (shards are still being indexed)"
    _say(f"{place.out}: {there} are there; {todo}{more}")
    started = time.monotonic()
    with Progress(place.out) as progress, session(settings["cluster"], progress.say):
        stop.again()
        _stop_early(stop)
        if until is not None:
            until.begin()
        driver = Driver(settings, work, backlog, progress, lock.check, until or stop)
        driver.evaluate()
        with committing(place.out):
            stamps.keep()
    outcome = Outcome(
        images=found.images,
        computed=driver.schedule.done,
        rows=found.missing_rows,
        failures=driver.crew.spent.failures,
        counters=driver.crew.spent.counters,
        seconds=time.monotonic() - started,
        remarks=[*ending(driver.last), *([until.end().text()] if until else [])],
    )
    if not driver.finished and not (until and until.decided):
        raise RunError(
            f"stopped by {stop.reason}: {outcome.computed} of {found.missing_images} images are "
            "done and stay; run the same command to do the rest"
        )
    return outcome


def _until(settings: Mapping[str, Any], run: RunDir, work: Work, stop: Stop) -> Until | None:
    """What ends a run before its last image, where that is asked for."""
    asked = settings.get("until") or {}
    return Until(run, work, asked, stop) if asked.get("method") else None


def _chosen(settings: Mapping[str, Any], work: Work) -> Iterable[Chosen]:
    """What is asked for, indexed up to the first sample, whose label is looked for.

    Raises UsageError where there is none, before `out` is touched.
    """
    seen, rest = [], work.data.indexed()
    for index, places in rest:
        seen.append((index, places))
        if len(places):
            work.check_labels(list(index.refs(places[:LOOKED_AT])))
            return itertools.chain(seen, rest)
    keys, shards = settings["dataset"]["keys"], settings["dataset"]["shards"]
    which = f"none of the samples that dataset.keys={keys} lists is" if keys else "no samples"
    raise UsageError(f"dataset.shards: {which} in {shards}")


def _stop_early(stop: Stop) -> None:
    if stop.reason is not None:
        raise RunError(f"stopped by {stop.reason} before work began; run the same command again")


def _say(text: str) -> None:
    print(text, flush=True)
