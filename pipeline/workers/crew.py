"""The actors of a run, as the driver knows them: started, asked, ended, and what they leave."""

import logging
import queue
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayActorError, RayTaskError

from pipeline.engine import Counters
from pipeline.engine.device import ENVIRONMENT
from pipeline.rows import RunDir
from pipeline.rows.writer import Identity, forget, register, take_over
from pipeline.workers.actor import Worker
from pipeline.workers.cluster import Group, Plan
from pipeline.workers.commit import committing
from pipeline.workers.lease import Lease, Report, Tally
from pipeline.workers.schedule import Image

logger = logging.getLogger(__name__)

CLOSE_S = 60.0
AT_ONCE = 16


@dataclass(eq=False)
class Member:
    """One actor, whose name is its writer's. `knows`: cells that it has the settings of; `window`:
    images that can be under way there; `call`: what it has been asked and will report."""

    name: str
    handle: Any
    group: Group
    begun: float
    knows: set[int] = field(default_factory=set)
    window: int = 0
    node: str = ""
    host: str = ""
    up: bool = False
    report: Report | None = None
    call: Any = None

    @property
    def calling(self) -> bool:
        """Whether a report is awaited."""
        return self.call is not None


class Left(NamedTuple):
    """What a member made durable and had not told when it ended: images by its last words, or
    rows as they were found."""

    done: Collection[Image] = ()
    rows: Collection[Identity] = ()


@dataclass
class Spent:
    """What has been spent and what has failed, summed over actors, fallen ones too."""

    counters: Counters = field(default_factory=Counters)
    cells: dict[int, Tally] = field(default_factory=dict)

    @property
    def failures(self) -> Counter[str]:
        """Of all cells."""
        return sum((tally.failures for tally in self.cells.values()), Counter())

    def tally(self, cell: int) -> Tally:
        """Of one cell."""
        return self.cells.setdefault(cell, Tally())

    def add(self, before: Report | None, report: Report) -> None:
        """Take note of a report that follows another."""
        for cell, more in report.cells.items():
            self.tally(cell).add(more)
        old = before.counters if before else Counters()
        for name, value in vars(report.counters).items():
            setattr(self.counters, name, getattr(self.counters, name) + value - getattr(old, name))


class Crew:
    """Members by name; what they answer arrives in `inbox` as (name, what was asked, answer).

    `cells`, settings by number, all of one model, may become more.
    """

    def __init__(self, run: RunDir, cells: dict[int, Mapping[str, Any]], plan: Plan):
        self.run, self.cells, self.plan = run, cells, plan
        self.members: dict[str, Member] = {}
        self.inbox: queue.SimpleQueue[tuple[str, str, Future]] = queue.SimpleQueue()
        self.spent = Spent()
        self._left: list[str] = []  # writers of members that are no more

    def take_on(self, cells: Mapping[int, Mapping[str, Any]]) -> None:
        """Cells that come now; what is spent is counted from here."""
        self.cells |= cells
        self.spent = Spent()

    def start(self, count: int, now: float) -> None:
        """More members, of the groups that lack most."""
        with committing(self.run.out), ThreadPoolExecutor(AT_ONCE) as pool:
            names = list(pool.map(lambda _: register(self.run), range(count)))
        present = Counter(id(member.group) for member in self.members.values())
        for name in names:
            group = max(self.plan.groups, key=lambda g: g.actors - present[id(g)])
            present[id(group)] += 1
            handle = (
                ray.remote(Worker)
                .options(
                    max_restarts=0,
                    max_task_retries=0,
                    max_concurrency=8,
                    runtime_env={"env_vars": ENVIRONMENT},
                    **group.resources,
                )
                .remote(self.run.kind.study, dict(self.cells), self.plan.threads, name)
            )
            member = self.members[name] = Member(name, handle, group, now, set(self.cells))
            self._expect(member, "ready", handle.ready.remote())

    def ask(self, member: Member, leases: Sequence[Lease], low: int, patience_s: float) -> None:
        """Have a member take these on and report."""
        wanted = {asked.cell for lease in leases for asked in lease.asked}
        new = {number: self.cells[number] for number in wanted - member.knows}
        member.knows |= wanted
        member.call = member.handle.exchange.remote(leases, low, patience_s, new)
        self._expect(member, "exchange", member.call)

    def drain(self, member: Member) -> None:
        """Have a member begin nothing more, and say what it has not begun."""
        self._expect(member, "drained", member.handle.drain.remote())

    def reported(self, member: Member, report: Report) -> None:
        """Take note."""
        self.spent.add(member.report, report)
        member.report, member.call = report, None

    def end(self, member: Member) -> set[Identity]:
        """A member is no more, or shall be: rows that it made durable without having told."""
        ray.kill(member.handle)
        del self.members[member.name]
        self._left.append(member.name)
        with committing(self.run.out):
            return take_over(self.run, member.name, member.report.sealed if member.report else 0)

    def seal(self) -> None:
        """Have members make parts of what they hold; those that cannot are ended, and it is done
        here."""
        _, able = self._asked_last("seal", self.members.values())
        for member in [m for m in self.members.values() if m.up]:
            if member.name not in able:
                self.end(member)

    def close(self, members: Collection[Member]) -> dict[str, Left]:
        """Have members seal what they hold and end; for those that cannot, it is done here."""
        done, able = self._asked_last("close", members)
        found: dict[str, Left] = {}
        for member in list(members):
            rows: set[Identity] = set()
            if member.name in able:
                ray.kill(member.handle)
                del self.members[member.name]
            else:
                rows = self.end(member)
            found[member.name] = Left(done[member.name], rows)
        return found

    def kill(self) -> None:
        """End all; what they have staged is for the next run to seal."""
        for member in self.members.values():
            ray.kill(member.handle)

    def tidy(self) -> None:
        """Nothing of a finished run is left but its parts."""
        with committing(self.run.out):
            for name in self._left:
                forget(self.run, name)

    def _asked_last(
        self, what: str, members: Collection[Member]
    ) -> tuple[dict[str, list[Image]], set[str]]:
        """Images that members tell of until they have done it, and the names of those that could.
        What they had been asked before is answered now too, and nobody else will hear it."""
        asked = {m.name: getattr(m.handle, what).remote() for m in members if m.up}
        calls = [*asked.values(), *(m.call for m in members if m.up and m.calling)]
        answered: set[Any] = set()
        if calls:
            answered.update(ray.wait(calls, num_returns=len(calls), timeout=CLOSE_S)[0])
        done: dict[str, list[Image]] = {member.name: [] for member in members}
        able: set[str] = set()
        for member in members:
            for call in (member.call, asked.get(member.name)):
                if call in answered and (report := self._answer(call)) is not None:
                    self.reported(member, report)
                    done[member.name] += report.done
                    if call is asked[member.name] and report.refused is None:
                        able.add(member.name)
        return done, able

    def _answer(self, call: Any) -> Report | None:
        """What a call has come to, if that is a report."""
        try:
            return ray.get(call)
        except (RayActorError, RayTaskError) as error:
            logger.warning("a worker could not seal its rows: %s", reason_of(error))
            return None

    def _expect(self, member: Member, event: str, call: Any) -> None:
        def answered(future: Future) -> None:
            self.inbox.put((member.name, event, future))

        call.future().add_done_callback(answered)


def reason_of(error: BaseException) -> str:
    """The last line that says something: Ray's messages end with the cause."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1] if lines else type(cause).__name__
