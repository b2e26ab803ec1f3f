"""The driver owns the work: it leases images and sees to it that every row is committed."""

import logging
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayTaskError

from pipeline import RunError, UsageError, config
from pipeline.data import SampleRef
from pipeline.engine import MALLOC, Counters
from pipeline.results import Identity, Run
from pipeline.work import Wanted, Work
from pipeline.workers.actor import Worker

IMAGES_PER_PART = 256
SECONDS_PER_PART = 15.0


@dataclass
class Lease:
    """One image whose rows are wanted, and how often its actor has died while it was in flight."""

    ref: SampleRef
    wanted: Wanted
    deaths: int = 0


class Progress(Protocol):
    """What the driver tells while it works."""

    def __call__(self, images: int, counters: Counters) -> None:
        """So many images are committed; this is what has been spent."""
        ...


@dataclass
class _Actor:
    """The driver's view of one actor."""

    handle: Any
    ready: Any
    window: int = 0
    leases: dict[Any, tuple[Lease, float]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    asked: Any = None


def connect(cluster: Mapping[str, Any]) -> None:
    """Join the cluster at `cluster.address`, or start an embedded Ray."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = cluster["address"]
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(address="local", include_dashboard=False, **options)
        else:
            ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"cluster.address={address}: cannot start or join Ray ({reason}); check it, or "
            "leave it out to run on this machine"
        ) from None


class Driver:
    """Gets every lease's rows committed, whatever happens to actors."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        work: Work,
        leases: Sequence[Lease],
        committed: set[Identity],
        progress: Progress,
    ):
        self.settings = settings
        self.cluster = settings["cluster"]
        self.work = work
        self.metadata = config.provenance(settings, work)
        self.run = Run(settings["out"], work.kind)
        self.todo: deque[Lease] = deque(leases)
        self.suspects: deque[Lease] = deque()
        self.committed = committed
        self.progress = progress
        self.counters = Counters()
        self.images = 0
        self.failed_rows = 0
        self._actors: list[_Actor] = []
        self._fallen: list[Counters] = []
        self._unsealed: list[str] = []
        self._sealed_at = time.monotonic()
        self._early_deaths = 0

    def evaluate(self) -> None:
        """Run until every lease is committed. Raises UsageError or RunError if none can."""
        actors, self._resources = self._plan()
        started = time.monotonic()
        try:
            for _ in range(min(actors, len(self.todo))):
                self._start()
            while self.todo or self.suspects or any(a.leases for a in self._actors):
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
                            f"{self._resources}; lower cluster.actors, cluster.threads or add nodes"
                        )
            self._count(final=True)
        finally:
            self._seal(final=True)
            for actor in self._actors:
                ray.kill(actor.handle)

    def _plan(self) -> tuple[int, dict[str, float]]:
        """How many actors, and what each needs: a GPU where there are any, else CPU cores."""
        total = ray.cluster_resources()
        cpus, gpus = total.get("CPU", 1.0), int(total.get("GPU", 0))
        wanted = self.cluster["actors"]
        if gpus:
            self.threads = self.cluster["threads"]
            return wanted or gpus, {"num_gpus": 1, "num_cpus": 1}
        actors = wanted or max(1, int(cpus) // self.cluster["threads"])
        share = cpus / actors
        self.threads = max(1, min(self.cluster["threads"], int(share)))
        return actors, {"num_cpus": min(self.threads, share)}

    def _start(self) -> None:
        handle = (
            ray.remote(Worker)
            .options(
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=1000,
                runtime_env={"env_vars": MALLOC},
                **self._resources,
            )
            .remote(dict(self.settings), self.threads)
        )
        self._actors.append(_Actor(handle=handle, ready=handle.ready.remote()))

    def _lease(self) -> None:
        """Give work to actors with room; a suspect gets an idle actor to itself."""
        for actor in self._actors:
            if not actor.window:
                continue
            alone = any(lease.deaths for lease, _ in actor.leases.values())
            if self.suspects and not actor.leases:
                self._give(actor, self.suspects.popleft())
                continue
            if alone or (self.suspects and not self.todo):
                continue
            while self.todo and len(actor.leases) < actor.window:
                self._give(actor, self.todo.popleft())

    def _give(self, actor: _Actor, lease: Lease) -> None:
        ref = actor.handle.evaluate.remote(lease.ref, list(lease.wanted))
        actor.leases[ref] = (lease, time.monotonic())

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
                if ref is actor.ready or ref == actor.ready:
                    actor.window = int(answer)
                else:
                    name, failed = answer
                    del actor.leases[ref]
                    self._done(name, failed)

    def _done(self, name: str, failed: int) -> None:
        self._unsealed.append(name)
        self.images += 1
        self.failed_rows += failed

    def _refused(self, actor: _Actor, ref: Any, error: RayTaskError) -> None:
        """The actor lives, but could not commit (or start): no other would fare better."""
        stop = UsageError if isinstance(error.cause, UsageError) else RunError
        raise stop(f"a worker cannot go on: {_reason(error.cause or error)}") from None

    def _died(self, actor: _Actor, error: BaseException) -> None:
        self._actors.remove(actor)
        self._fallen.append(actor.counters)
        if not actor.window:
            self._early_deaths += 1
            if self._early_deaths >= self.cluster["tries"]:
                raise RunError(f"workers cannot start: {_reason(error)}") from None
        alone = len(actor.leases) == 1
        for lease, _ in actor.leases.values():
            lease.deaths += 1
            if alone and lease.deaths >= self.cluster["tries"]:
                rows = self.work.failures(
                    lease.ref.shard,
                    lease.ref.key,
                    lease.wanted,
                    f"its worker process died {lease.deaths} times: {_reason(error)}",
                )
                self._done(self.run.stage(rows, self.metadata), len(rows))
            else:
                self.suspects.append(lease)
        if self.todo or self.suspects:
            self._start()

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
            missing = set(self._unsealed) - set(self.run.staged())
            if missing:
                raise UsageError(
                    f"out={self.settings['out']}: a worker's file does not show up here; give an "
                    "out= that all nodes share (a mounted folder or an object store URL)"
                )
            self.run.seal(self._unsealed, self.committed)
            self._unsealed = []
            self._sealed_at = time.monotonic()

    def _count(self, *, final: bool = False) -> None:
        """Poll the engines' counters without waiting, and tell the progress."""
        for actor in self._actors:
            if actor.asked is not None:
                done, _ = ray.wait([actor.asked], timeout=5 if final else 0)
                if not done:
                    continue
                try:
                    actor.counters = ray.get(actor.asked)
                except RayActorError:
                    continue
            if actor.window:
                actor.asked = actor.handle.counters.remote()
                if final:
                    actor.counters = ray.get(actor.asked)
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
