"""Settings that several jobs share; a job's own stand beside the job."""

from dataclasses import dataclass, field

from pipeline.config.limits import (
    above,
    at_least,
    between,
    inside,
    listening,
    one_of,
    setting,
    whole_or_share,
)


@dataclass
class EngineConfig:
    """How a worker computes; none of this changes what a row means, but for `precision`."""

    precision: str = setting("fp32", one_of("fp32", "tf32", "bf16", "verified"))
    tokens_per_batch: int | None = setting(None, at_least(1))
    images_in_flight: int | None = setting(None, at_least(1))


@dataclass
class ClusterConfig:
    """Where workers run: see conf/cluster."""

    address: str | None = setting(None, listening())
    actors: int | None = setting(None, at_least(1))
    threads: int = setting(2, at_least(1))
    gpus_per_actor: float = setting(1.0, whole_or_share())
    cpu_actors: int = setting(0, at_least(0))
    placement_timeout_s: float = setting(600.0, above(0))
    image_deadline_s: float = setting(3600.0, above(0))
    tries: int = setting(3, at_least(1))
    grace_s: float = setting(30.0, at_least(0))
    time_limit_s: float | None = setting(None, above(0))


@dataclass
class UntilConfig:
    """When to stop before the last image: see conf/until; without a method, never."""

    method: str | None = None
    against: str | None = None
    objective: str = setting("insertion", one_of("insertion", "deletion"))
    quantity: str = setting("auc_probability", one_of("auc_probability", "auc_top1"))
    margin: float = setting(0.0, between(0, 1))
    alpha: float = setting(0.05, inside(0, 1))
    seed: int = setting(0, at_least(0))


@dataclass
class LockConfig:
    """One command at a time writes rows into a run directory; 0 refuses to wait for another."""

    wait_s: float = setting(600.0, at_least(0))


@dataclass
class TrackingConfig:
    """W&B, TensorBoard or nobody: see conf/tracking."""

    mode: str = setting("offline", one_of("offline", "online", "tensorboard", "disabled"))
    project: str = "pixel-quorum"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    samples: int = setting(16, at_least(0))
