"""Ray itself: joining or starting it, and what it has to give."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from pipeline import UsageError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many actors, the threads of each, and what Ray reserves for it."""

    actors: int
    threads: int
    resources: dict[str, float]


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


def plan(cluster: Mapping[str, Any]) -> Plan:
    """A GPU for each actor where there are any, else CPU cores."""
    total = ray.cluster_resources()
    cpus, gpus = total.get("CPU", 1.0), int(total.get("GPU", 0))
    wanted, threads = cluster["actors"], cluster["threads"]
    if gpus:
        resources = {"num_gpus": 1.0, "num_cpus": 1.0}
        return Plan(actors=wanted or gpus, threads=threads, resources=resources)
    actors = wanted or max(1, int(cpus) // threads)
    share = cpus / actors
    threads = max(1, min(threads, int(share)))
    return Plan(actors=actors, threads=threads, resources={"num_cpus": min(threads, share)})
