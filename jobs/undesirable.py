"""Optimise masks of undesirable pixels (F-TC, F-NTC): rows into <out>/masks, only those missing.

A mask's blurred part raises the target's probability. One row is one (image, method, trial); the
same command again computes what is not there yet.

    python -m jobs.undesirable experiment=undesirable_demo
    python -m jobs.undesirable dataset.name=pets dataset.shards=/data/pets-000000.tar target=label
    python -m jobs.undesirable methods=[f_tc] trials=5 methods.f_tc.noise=0.2 ...
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from jobs.evaluate import complete, complete_all
from pipeline.config import entry_point
from pipeline.config.limits import at_least, between, directory, one_of, setting
from pipeline.config.schema import ClusterConfig, EngineConfig, LockConfig, TrackingConfig
from pipeline.studies.masks.controls import CONTROLS
from pipeline.studies.masks.rows import MASKS
from pipeline.sweep import Sweep


@dataclass
class UndesirableConfig:
    """Settings: see conf/undesirable.yaml."""

    out: str = setting(MISSING, directory())
    dataset: Any = MISSING
    model: Any = MISSING
    methods: dict[str, Any] = field(default_factory=dict)
    target: str = "prediction"
    trials: int = setting(1, at_least(1))
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))
    greedy_grid: int = setting(14, at_least(1))
    engine: EngineConfig = field(default_factory=EngineConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    retry: str = setting("none", one_of("none", "failed"))
    max_failed: float = setting(0.05, between(0, 1))
    lock: LockConfig = field(default_factory=LockConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    plugins: list[str] = field(default_factory=list)
    sweep: Any = None


def sweep(found: Sweep) -> int:
    """Rows of masks, of many cells."""
    return complete_all("masks", MASKS, found, dict)


@entry_point("undesirable", UndesirableConfig, sweep=sweep)
def main(settings: dict[str, Any]) -> None:
    """Rows of masks."""
    complete("masks", settings)


if __name__ == "__main__":
    main()
