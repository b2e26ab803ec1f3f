"""The driver: carries out what the schedule decides, with real actors. It holds counts, no rows."""

import logging
import queue
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import replace

from ray.exceptions import RayActorError, RayTaskError

from pipeline import RunError, UsageError
from pipeline.build import provenance
from pipeline.progress import Status
from pipeline.rows import RunDir, Writer
from pipeline.rows.writer import Identity, register
from pipeline.workers.backlog import Backlog
from pipeline.workers.cluster import Health, plan
from pipeline.workers.commit import committing
from pipeline.workers.crew import Crew, Member, reason_of
from pipeline.workers.lease import Cell, Report, Tally
from pipeline.workers.schedule import Image, Schedule, Seat, Span, patience, watermark
from pipeline.workers.standing import standing
from pipeline.workers.stop import Stop
from pipeline.workers.tries import Tries
from pipeline.workers.until import Until

logger = logging.getLogger(__name__)

TICK_S = 0.25
COMING_S = 60.0
"""Actors that were started no longer ago are counted on when work is shared out."""


class Driver:
    """Gets every missing row committed, whatever happens to actors."""

    def __init__(
        self,
        cells: Mapping[int, Cell],
        backlog: Backlog,
        progress: Callable[[Status], None],
        check: Callable[[], None],
        stop: Stop | Until,
        take: Callable[[Backlog], list[Span]] = Backlog.take,
    ):
        """`cells` are all of one model and run directory; how to compute is the first one's say.
        `check` raises where another holds the lock; `take`: what is found missing, in order."""
        first = next(iter(cells.values()))
        self.cells, self.cluster = cells, first.settings["cluster"]
        self.backlog = backlog
        self.progress, self.check, self.stop, self.take = progress, check, stop, take
        self.run = RunDir(first.settings["out"], first.work.kind)
        tries, deadline = self.cluster["tries"], self.cluster["image_deadline_s"]
        self.schedule = Schedule(tries=tries, deadline_s=deadline)
        self.tries = Tries(self.run, self.schedule.suspects, backlog)
        self._early_deaths = 0  # in a row, of actors that were never ready
        self._unfilled = 0  # places for actors that cannot start
        self._refusals = 0  # in a row, without a commit between them
        self._ticked = 0.0
        self._grace_ends: float | None = None

    @property
    def finished(self) -> bool:
        """Every image is done or given up."""
        return self.backlog.complete and not self.backlog.waits and self.schedule.finished

    def evaluate(self, crew: Crew | None = None, *, keep: bool = False) -> None:
        """Run until everything is committed, or `stop` says so and the grace is over; with a crew
        that is there already, which the next driver may `keep`.

        Raises UsageError or RunError where it cannot be done.
        """
        self._started, kept = time.monotonic(), False
        self.crew = crew or self._recruited()
        self.plan = self.crew.plan
        self.crew.take_on({number: cell.settings for number, cell in self.cells.items()})
        self.health = Health()
        try:
            for member in self.crew.members.values():
                if member.up:
                    self.schedule.up(member.name, member.window, time.monotonic())
            while not self._over():
                if time.monotonic() - self._ticked > TICK_S:
                    self._tick()
                try:
                    name, event, future = self.crew.inbox.get(timeout=TICK_S)
                except queue.Empty:
                    continue
                if member := self.crew.members.get(name):
                    self._heard(member, event, future)
            self.last = self.status()
            if keep and self.finished:
                self.crew.seal()
                kept = True
            else:
                self._close(list(self.crew.members.values()))
            self.last = replace(self.status(), actors=self.last.actors)
            if self.finished:
                self.tries.forget()
            if self.finished and not kept:
                self.crew.tidy()
            self.progress(self.last)
        finally:
            self.health.stop()
            if not kept:
                self.crew.kill()

    def _recruited(self) -> Crew:
        return Crew(self.run, {}, plan(self.cluster))

    def status(self) -> Status:
        """What an operator sees."""
        return standing(self.cells, self.backlog, self.crew, self.schedule)

    def _over(self) -> bool:
        if self._grace_ends is None:
            return self.finished
        held = any(seat.held for seat in self.schedule.seats.values())
        return not held or time.monotonic() > self._grace_ends

    def _tick(self) -> None:
        """What is looked after again and again."""
        now = self._ticked = time.monotonic()
        self.check()
        self.schedule.more = not self.backlog.complete
        for span in self.tries.without_suspects(self.take(self.backlog)):
            self.schedule.offer(span)
        leaving = self.health.check()
        if self._grace_ends is None and self.stop.reason is not None:
            self._end_orderly(self.stop.reason, now)
        if self._grace_ends is None:
            self._fill_places(now)
        self._check_deadlines(now)
        for member in list(self.crew.members.values()):
            if member.up and member.node in leaving:
                self._leave(member, "its node is about to go")
            if member.up and not member.calling:
                self._call(member)
        self.progress(self.status())

    def _end_orderly(self, reason: str, now: float) -> None:
        grace = self.cluster["grace_s"]
        logger.warning("%s: finishing what is under way, for %g s at most", reason, grace)
        self._grace_ends = now + grace
        self.schedule.stop()
        for member in self.crew.members.values():
            if member.up:
                self._leave(member)

    def _leave(self, member: Member, reason: str = "") -> None:
        """A member finishes what it has begun, and no more."""
        if self.schedule.seats[member.name].leaving:
            return
        if reason:
            logger.warning("a worker finishes and is replaced: %s", reason)
        self.schedule.leave(member.name)
        self.crew.drain(member)

    def _fill_places(self, now: float) -> None:
        """Start actors while there are places and work for them."""
        starting = [m for m in self.crew.members.values() if not m.up]
        self.schedule.coming = sum(now - m.begun < COMING_S for m in starting)
        wanted = min(self.plan.actors - self._unfilled, self.schedule.actors_needed)
        if (lacking := wanted - len(self.crew.members)) > 0:
            self.crew.start(lacking, now)
        waited = now - self._started
        nobody = len(starting) == len(self.crew.members) and not self.schedule.done
        if nobody and waited > self.cluster["placement_timeout_s"]:
            needs = " or ".join(str(dict(group.resources)) for group in self.plan.groups)
            raise UsageError(
                f"no actor could be placed in {waited:.0f} s: the cluster lacks {needs}; lower "
                "cluster.actors, cluster.threads or add nodes"
            )

    def _check_deadlines(self, now: float) -> None:
        """Ray never notices a hung actor; ending it makes it a death like any other."""
        members = self.crew.members
        oldest = {n: m.report.oldest[1] for n, m in members.items() if m.report and m.report.oldest}
        for name in self.schedule.late(oldest, now):
            limit = self.cluster["image_deadline_s"]
            report, silent = members[name].report, now - self.schedule.seats[name].heard
            old = report.old if report and silent < limit / 2 else None
            reason = f"an image took longer than image_deadline_s={limit:g}"
            self._died(members[name], reason, among=old)

    def _call(self, member: Member) -> None:
        """Give a member more and have it report, unless there is nothing to give or to hear of."""
        spans = self.schedule.give(member.name, time.monotonic())
        leases = list(self.backlog.leases(spans))
        seat = self.schedule.seats[member.name]
        if seat.held:
            self.crew.ask(member, leases, watermark(seat), patience(len(self.crew.members)))
        elif seat.leaving and self._grace_ends is None:
            self._close([member])  # a node that goes, before the run ends

    def _heard(self, member: Member, event: str, future: Future) -> None:
        try:
            answer = future.result()
        except RayTaskError as error:
            self._refused(member, error.cause or error, at_work=event != "ready")
        except RayActorError as error:
            self._died(member, reason_of(error), guilty="its node" not in str(error))
        else:
            if event == "ready":
                self._up(member, *answer)
            elif event == "drained":
                self.schedule.returned(member.name, answer)
            else:
                self._reported(member, answer)

    def _up(self, member: Member, window: int, node: str, host: str) -> None:
        member.node, member.host, member.up, member.window = node, host, True, window
        self._early_deaths = 0
        self.schedule.up(member.name, window, time.monotonic())
        self._call(member)

    def _reported(self, member: Member, report: Report) -> None:
        self.crew.reported(member, report)
        self.schedule.heard(member.name, report.done, time.monotonic())
        if report.done:
            self._refusals = 0
        if report.refused is not None:
            self._refused(member, report.refused)
        else:
            self._call(member)

    def _refused(self, member: Member, error: BaseException, *, at_work: bool = True) -> None:
        """The actor lives, but could not start or commit: the settings' fault, or the store's,
        which may pass. Replaced, unless all actors have been for `cluster.tries` times."""
        reason = reason_of(error)
        if isinstance(error, UsageError):
            raise UsageError(f"a worker cannot go on: {reason}") from None
        self._refusals += 1
        if not at_work or self._refusals >= self.cluster["tries"] * self.plan.actors:
            raise RunError(
                f"a worker cannot go on: {reason}; what is committed stays: mend it and run the "
                "same command again"
            ) from None
        logger.warning("a worker could not commit and is replaced: %s", reason)
        self._died(member, reason, guilty=False)

    def _died(
        self,
        member: Member,
        reason: str,
        *,
        guilty: bool = True,
        among: Collection[Image] | None = None,
    ) -> None:
        """An actor is no more, or shall be; what it had under way goes back."""
        rows = self.crew.end(member)
        seat = self.schedule.seats.get(member.name)
        if seat is None:
            self._died_early(reason)
            return
        logger.info("a worker died: %s", reason)
        durable = self._durable(seat, rows)
        for image in self.schedule.down(member.name, durable, guilty=guilty, among=among):
            self._give_up(image, reason)
        self.tries.keep()

    def _durable(self, seat: Seat, rows: Collection[Identity]) -> set[Image]:
        """Images of a seat that are done by the rows that were found."""
        places = {row[:2] for row in rows}
        theirs = [image for image in seat.held if rows and self.backlog.place(image) in places]
        return {image for image in theirs if self.backlog.settle(image, rows)}

    def _died_early(self, reason: str) -> None:
        self._early_deaths += 1
        if self._early_deaths >= self.cluster["tries"]:
            ready = sum(member.up for member in self.crew.members.values())
            if not ready:
                raise RunError(f"workers cannot start: {reason}")
            self._unfilled += 1
            logger.warning("workers cannot start (%s); going on with %d", reason, ready)

    def _give_up(self, image: Image, reason: str) -> None:
        """Failed rows for an image that kills its workers."""
        said = f"its worker process died {self.cluster['tries']} times: {reason}"
        place = self.backlog.place(image)
        with committing(self.run.out):
            writer = Writer(self.run, register(self.run), {})
            for number, wanted in self.backlog.wanted(image):
                cell = self.cells[number]
                rows = cell.work.failures(*place, wanted, said)
                writer.stage(rows, provenance(cell.settings, cell.work))
                self.crew.spent.tally(number).add(Tally(len(rows), Counter({said: len(rows)})))
            writer.close()

    def _close(self, members: list[Member]) -> None:
        for name, left in self.crew.close(members).items():
            if name in self.schedule.seats:
                self.schedule.heard(name, left.done, time.monotonic())
                durable = self._durable(self.schedule.seats[name], left.rows)
                self.schedule.down(name, durable, guilty=False)
