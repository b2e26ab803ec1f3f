"""Ray itself: joining or starting it, what it has to give, whether it is still alive."""

import atexit
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import state, worker

from pipeline import RunError, UsageError
from pipeline.token import protect

logger = logging.getLogger(__name__)

LOOK_S = 3.0
SILENT_S = 20.0
"""A cluster that does not answer for so long is gone."""


class LostError(RunError):
    """Ray has died under the run, and would not answer a farewell."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Actors that are alike: how many, and what Ray reserves for each."""

    actors: int
    resources: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The groups, and the threads of each actor."""

    groups: tuple[Group, ...]
    threads: int

    @property
    def actors(self) -> int:
        """Of all groups."""
        return sum(group.actors for group in self.groups)


@contextmanager
def session(cluster: Mapping[str, Any], say: Callable[[str], None]) -> Iterator[None]:
    """Be connected to the cluster at `cluster.address`, or to an embedded Ray of our own.

    An embedded one leaves no process behind, nor, where all went well, its session's folder.
    """
    say("starting Ray ..." if cluster["address"] is None else "joining the Ray cluster ...")
    _connect(cluster)
    protect()
    try:
        yield
    except LostError:
        _abandon()
        raise
    except BaseException:
        ray.shutdown()
        raise
    node: Any = worker._global_node
    folder = node.get_session_dir_path() if cluster["address"] is None and node else None
    ray.shutdown()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def plan(cluster: Mapping[str, Any], total: Mapping[str, float] | None = None) -> Plan:
    """A GPU, or a share of one, for each actor where there are any, else CPU cores; of the cluster
    that this process has joined, or of one that has `total`.

    Raises UsageError where an embedded Ray cannot give what is asked for.
    """
    total = ray.cluster_resources() if total is None else total
    cpus, gpus = total.get("CPU", 1.0), total.get("GPU", 0.0)
    wanted, threads, share = cluster["actors"], cluster["threads"], cluster["gpus_per_actor"]
    if gpus:
        on_gpus = {"num_gpus": share, "num_cpus": 1.0}
        groups = [Group(actors=wanted or int(gpus / share), resources=on_gpus)]
        if beside := cluster["cpu_actors"]:
            groups.append(Group(actors=beside, resources={"num_cpus": float(threads)}))
        _check(groups, total, cluster)
        return Plan(groups=tuple(groups), threads=threads)
    actors = wanted or cluster["cpu_actors"] or max(1, int(cpus) // threads)
    each = cpus / actors
    threads = max(1, min(threads, int(each)))
    group = Group(actors=actors, resources={"num_cpus": min(threads, each)})
    return Plan(groups=(group,), threads=threads)


class Health:
    """Looks at the cluster on a thread of its own, since a dead one may never answer."""

    def __init__(self) -> None:
        self._node = ray.get_runtime_context().get_node_id()
        self._answered = time.monotonic()
        self._trouble: str | None = None
        self._leaving: frozenset[str] = frozenset()
        self._over = threading.Event()
        threading.Thread(target=self._look, name="health", daemon=True).start()

    def check(self) -> frozenset[str]:
        """Nodes that are about to go. Raises LostError where Ray is no longer alive."""
        silent = time.monotonic() - self._answered
        trouble = self._trouble or (f"no answer for {silent:.0f} s" if silent > SILENT_S else None)
        if trouble is not None:
            self.stop()
            raise LostError(
                f"Ray has died ({trouble}); what is committed stays: run the same command to do "
                "the rest"
            )
        return self._leaving

    def stop(self) -> None:
        """Look no more."""
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            try:
                self._trouble = self._trouble or self._found()
                self._leaving = frozenset(state.state.get_draining_nodes())
                self._answered = time.monotonic()
            except Exception as error:  # the driver decides when it has waited long enough
                logger.debug("the cluster does not answer: %s", error)

    def _found(self) -> str | None:
        node: Any = worker._global_node
        dead = [kind for kind, _ in node.dead_processes()] if node else []
        if dead:
            return f"its {', '.join(dead)} ended"
        nodes = {one["NodeID"]: one["Alive"] for one in ray.nodes()}
        return None if nodes.get(self._node, True) else "the driver's own node is dead"


def _connect(cluster: Mapping[str, Any]) -> None:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = cluster["address"]
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            # on a busy machine Ray's own agent may take longer than the 15 s that its node waits
            os.environ.setdefault("RAY_agent_register_timeout_ms", "60000")
            ray.init(address="local", include_dashboard=False, **options)
        else:
            ray.init(address=address, **options)
    except Exception as error:  # a node that starts too slowly is told as a plain one
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"cluster.address={address}: cannot start or join Ray ({reason}); check it, or "
            "leave it out to run on this machine"
        ) from None


def _abandon() -> None:
    """Leave a Ray that does not answer: end what this process started, wait for nobody."""
    node: Any = worker._global_node
    if node is not None:
        with suppress(Exception):
            node.kill_all_processes(check_alive=False, allow_graceful=False)
    leaving = threading.Thread(target=ray.shutdown, daemon=True)
    leaving.start()
    leaving.join(timeout=5.0)
    atexit.unregister(worker.shutdown)


def _check(groups: list[Group], total: Mapping[str, float], cluster: Mapping[str, Any]) -> None:
    """Say at once what this machine or cluster, as it is, cannot give to a single actor."""
    for group in groups:
        lacking = [
            f"{name.removeprefix('num_').upper()}: {wanted:g}"
            for name, wanted in group.resources.items()
            if total.get(name.removeprefix("num_").removesuffix("s").upper(), 0.0) < wanted
        ]
        if lacking and cluster["address"] is None:
            raise UsageError(f"this machine has not what one actor needs ({', '.join(lacking)})")
        if lacking:
            logger.warning(
                "the cluster has not what one actor needs (%s); waiting up to %g s for it to grow",
                ", ".join(lacking),
                cluster["placement_timeout_s"],
            )
