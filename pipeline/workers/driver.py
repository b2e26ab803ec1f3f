"""The driver owns the work: it leases images and sees to it that every row is committed."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayTaskError

from pipeline import RunError, UsageError
from pipeline.build import provenance
from pipeline.engine import Counters
from pipeline.engine.device import MALLOC
from pipeline.rows import Identity, RunDir
from pipeline.rows.storage import retried
from pipeline.work import Work
from pipeline.workers.actor import Worker
from pipeline.workers.cluster import plan
from pipeline.workers.commit import committing
from pipeline.workers.lease import Lease
from pipeline.workers.suspects import Suspects

logger = logging.getLogger(__name__)

IMAGES_PER_PART = 256
SECONDS_PER_PART = 15.0


class Progress(Protocol):
    """What the driver tells while it works."""

    def __call__(self, images: int, counters: Counters) -> None:
        """So many images are committed; this is what has been spent."""
        ...


@dataclass
class _Actor:
    """The driver's view of one actor; `suspect`: what it holds was in flight when another died."""

    handle: Any
    ready: Any
    window: int = 0
    suspect: bool = False
    leases: dict[Any, tuple[Lease, float]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    asked: Any = None


class Driver:
    """Gets every lease's rows committed, whatever happens to actors."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        work: Work,
        leases: Sequence[Lease],
        committed: set[Identity],
        progress: Progress,
        check: Callable[[], None],
    ):
        self.settings = settings
        self.cluster = settings["cluster"]
        self.work = work
        self.metadata = provenance(settings, work)
        self.run = RunDir(settings["out"], work.kind)
        self.todo: deque[Lease] = deque(leases)
        self.suspects: Suspects[Lease] = Suspects(self.cluster["tries"])
        self.committed = committed
        self.progress = progress
        self.check = check
        self.counters = Counters()
        self.images = 0
        self.failed_rows = 0
        self._actors: list[_Actor] = []
        self._fallen: list[Counters] = []
        self._unsealed: list[str] = []
        self._sealed_at = time.monotonic()
        self._early_deaths = 0  # in a row, of actors that were never ready
        self._refusals = 0  # in a row, without a commit between them

    def evaluate(self) -> None:
        """Run until every lease is committed. Raises UsageError or RunError if none can.

        `check` raises where this run must stop: another holds the lock.
        """
        self.plan = plan(self.cluster)
        started = time.monotonic()
        try:
            for _ in range(min(self.plan.actors, len(self.todo))):
                self._start()
            while self.todo or self.suspects or any(a.leases for a in self._actors):
                self.check()
                self._lease()
                self._collect()
                self._check_deadlines()
                self._seal()
                self._count()
                if not any(a.window for a in self._actors) and not self.images:
                    waited = time.monotonic() - started
                    if waited > self.cluster["placement_timeout_s"]:
                        raise UsageError(
                            f"no actor could be placed in {waited:.0f} s: the cluster lacks "
                            f"{self.plan.resources}; lower cluster.actors, cluster.threads or "
                            "add nodes"
                        )
            self._count(final=True)
        finally:
            self._seal(final=True)
            for actor in self._actors:
                ray.kill(actor.handle)

    def _start(self) -> None:
        handle = (
            ray.remote(Worker)
            .options(
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=1000,
                runtime_env={"env_vars": MALLOC},
                **self.plan.resources,
            )
            .remote(self.work.kind.study, dict(self.settings), self.plan.threads)
        )
        self._actors.append(_Actor(handle=handle, ready=handle.ready.remote()))

    def _lease(self) -> None:
        """Give work to actors with room; suspects get an idle actor to themselves."""
        for actor in self._actors:
            if not actor.window or (actor.suspect and actor.leases):
                continue
            actor.suspect = bool(self.suspects) and not actor.leases
            if actor.suspect:
                for lease in self.suspects.next():
                    self._give(actor, lease)
            while self.todo and not actor.suspect and len(actor.leases) < actor.window:
                self._give(actor, self.todo.popleft())

    def _give(self, actor: _Actor, lease: Lease) -> None:
        actor.leases[actor.handle.evaluate.remote(lease)] = (lease, time.monotonic())

    def _collect(self) -> None:
        """Take acknowledgements, notice actors that became ready or died."""
        waiting = {
            ref: a for a in self._actors for ref in (*a.leases, *([] if a.window else [a.ready]))
        }
        if not waiting:
            time.sleep(0.05)
            return
        done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        if not done:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=0.5)
        for ref in done:
            actor = waiting[ref]
            if actor not in self._actors:
                continue
            try:
                answer = ray.get(ref)
            except RayTaskError as error:
                self._refused(actor, ref, error)
            except RayActorError as error:
                self._died(actor, error)
            else:
                if ref == actor.ready:
                    actor.window = int(answer)
                    self._early_deaths = 0
                else:
                    name, failed = answer
                    del actor.leases[ref]
                    self._done(name, failed)

    def _done(self, name: str, failed: int) -> None:
        self._unsealed.append(name)
        self.images += 1
        self.failed_rows += failed
        self._refusals = 0

    def _refused(self, actor: _Actor, ref: Any, error: RayTaskError) -> None:
        """The actor lives, but could not start or commit: the settings' fault, or the store's,
        which may pass. Replaced, unless all actors have been for `cluster.tries` times."""
        reason = _reason(error.cause or error)
        if isinstance(error.cause, UsageError):
            raise UsageError(f"a worker cannot go on: {reason}") from None
        self._refusals += 1
        if ref == actor.ready or self._refusals >= self.cluster["tries"] * self.plan.actors:
            raise RunError(f"a worker cannot go on: {reason}") from None
        logger.warning("a worker could not commit and is replaced: %s", reason)
        ray.kill(actor.handle)
        self._died(actor, error)

    def _died(self, actor: _Actor, error: BaseException) -> None:
        """Replace an actor; what it had in flight goes back."""
        self._actors.remove(actor)
        self._fallen.append(actor.counters)
        if not actor.window:
            self._early_deaths += 1
            if self._early_deaths >= self.cluster["tries"]:
                self._go_on_without(_reason(error))
                return
        held = [lease for lease, _ in actor.leases.values()]
        if (lease := self.suspects.died(held, suspect=actor.suspect)) is not None:
            reason = f"its worker process died {self.cluster['tries']} times: {_reason(error)}"
            ref = lease.ref
            rows = self.work.failures(ref.shard, ref.key, lease.wanted, reason)
            with committing(self.run.out):
                self._done(self.run.stage(rows, self.metadata), len(rows))
        if self.todo or self.suspects:
            self._start()

    def _go_on_without(self, reason: str) -> None:
        ready = sum(bool(actor.window) for actor in self._actors)
        if not ready:
            raise RunError(f"workers cannot start: {reason}")
        logger.warning("workers cannot start (%s); going on with %d", reason, ready)

    def _check_deadlines(self) -> None:
        """Ray never notices a hung actor; killing it makes it a death like any other."""
        limit = self.cluster["image_deadline_s"]
        for actor in self._actors:
            oldest = min((begun for _, begun in actor.leases.values()), default=None)
            if oldest is not None and time.monotonic() - oldest > limit:
                ray.kill(actor.handle)

    def _seal(self, *, final: bool = False) -> None:
        age = time.monotonic() - self._sealed_at
        due = len(self._unsealed) >= IMAGES_PER_PART or age > SECONDS_PER_PART
        if self._unsealed and (final or due):
            self.check()
            with committing(self.run.out):
                if set(self._unsealed) - set(retried(self.run.staged)):
                    raise UsageError(
                        f"out={self.run.out}: a worker's file does not show up here; give an out= "
                        "that all nodes share (a mounted folder or an object store URL)"
                    )
                self.run.seal(self._unsealed, self.committed)
            self._unsealed = []
            self._sealed_at = time.monotonic()

    def _count(self, *, final: bool = False) -> None:
        """Poll the engines' counters without waiting, and tell the progress."""
        for actor in self._actors:
            try:
                if actor.asked is not None:
                    done, _ = ray.wait([actor.asked], timeout=5 if final else 0)
                    if not done:
                        continue
                    actor.counters = ray.get(actor.asked)
                if actor.window:
                    actor.asked = actor.handle.counters.remote()
                    if final:
                        actor.counters = ray.get(actor.asked)
            except RayActorError:
                continue  # its death is noticed where its images are
        every = self._fallen + [actor.counters for actor in self._actors]
        self.counters = Counters(
            **{name: sum(getattr(c, name) for c in every) for name in vars(Counters())}
        )
        self.progress(self.images, self.counters)


def _reason(error: BaseException) -> str:
    """The last line that says something: Ray's messages end with the cause."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1] if lines else type(cause).__name__
