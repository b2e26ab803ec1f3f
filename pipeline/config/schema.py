"""Settings that several jobs share; a job's own stand beside the job."""

from dataclasses import dataclass, field


@dataclass
class EngineConfig:
    """How a worker computes; none of this changes what a row means, but for `precision`."""

    precision: str = "fp32"
    tokens_per_batch: int | None = None
    images_in_flight: int | None = None


@dataclass
class ClusterConfig:
    """Where workers run: see conf/cluster."""

    address: str | None = None
    actors: int | None = None
    threads: int = 2
    gpus_per_actor: float = 1.0
    cpu_actors: int = 0
    placement_timeout_s: float = 600.0
    image_deadline_s: float = 3600.0
    tries: int = 3
    grace_s: float = 30.0
    time_limit_s: float | None = None


@dataclass
class LockConfig:
    """One command at a time writes rows into a run directory; 0 refuses to wait for another."""

    wait_s: float = 600.0


@dataclass
class TrackingConfig:
    """W&B: see conf/tracking."""

    mode: str = "offline"
    project: str = "pixel-quorum"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
