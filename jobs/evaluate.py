"""Evaluate attribution methods over a data set: rows into <out>/results, only those missing.

One row is one (image, method, objective); the same command again computes what is not there yet.

    python -m jobs.evaluate dataset.name=pets dataset.shards=/data/pets-000000.tar
    python -m jobs.evaluate experiment=quickstart
    python -m jobs.evaluate dataset=imagenet model=timm model.name=resnet18 cluster.address=auto
    python -m jobs.evaluate methods=[moxi_insertion,gradcam] players=patch7 masking=blur ...
    python -m jobs.evaluate until=decided until.method=rise until.against=gradcam ...
    python -m jobs.evaluate -m masking=zero,blur players=patch7,patch14 ...  # docs/sweeps.md
    python -m jobs.evaluate model=timm model.name=resnet50 orders=runs/resnet18 out=runs/on50 ...
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline import failures, tracking, workers
from pipeline.config import entry_point, record
from pipeline.config.limits import between, directory, one_of, setting
from pipeline.config.schema import (
    ClusterConfig,
    EngineConfig,
    LockConfig,
    TrackingConfig,
    UntilConfig,
)
from pipeline.rows import Kind
from pipeline.studies.curves.orders import located
from pipeline.studies.curves.rows import CURVES
from pipeline.sweep import Sweep, running
from pipeline.sweep.running import Prepare


@dataclass
class EvaluateConfig:
    """Settings: see conf/evaluate.yaml."""

    out: str = setting(MISSING, directory())
    dataset: Any = MISSING
    model: Any = MISSING
    players: Any = MISSING
    masking: Any = MISSING
    curve_masking: Any = MISSING
    judge: Any = MISSING
    methods: dict[str, Any] = field(default_factory=dict)
    orders: Any = None
    target: str = "prediction"
    engine: EngineConfig = field(default_factory=EngineConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    retry: str = setting("none", one_of("none", "failed"))
    max_failed: float = setting(0.05, between(0, 1))
    until: UntilConfig = field(default_factory=UntilConfig)
    lock: LockConfig = field(default_factory=LockConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    published: dict[str, Any] = field(default_factory=dict)
    table: Any = None
    plugins: list[str] = field(default_factory=list)
    sweep: Any = None


def complete(study: str, settings: dict[str, Any]) -> workers.Outcome:
    """Compute a study's rows that are missing, say what was done, and return it.

    Raises RunError where too many of them failed.
    """
    tracking.check(settings)
    with tracking.Evaluation(settings) as tracked:
        outcome = workers.run(study, settings, accepted=record)
        if outcome.computed:
            print(outcome.text())
        elif outcome.remarks:
            print(*outcome.remarks, sep="\n")
        tracked.tell(outcome)
    print(outcome.counted)
    if outcome.trouble is not None:
        raise outcome.trouble
    if failed := failures.told(outcome.failures, outcome.rows):
        print(f"{failed}; retry=failed computes them again")
    print(f"next: python -m jobs.aggregate out={settings['out']}")
    return outcome


def complete_all(study: str, kind: Kind, sweep: Sweep, prepare: Prepare) -> int:
    """Complete the cells of a sweep and say what has become of each; an exit status."""

    def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
        tracking.check(settings)
        return prepare(settings)

    swept = running.run(study, kind, sweep, checked, record)
    total, done = swept.total, [one for one in swept.ended if one.trouble is None]
    if total.computed:
        print(total.text())
        first = next(one.cell.settings for one in swept.ended if one.outcome)
        with tracking.Evaluation(first) as tracked:
            tracked.tell(total)
    if swept.ended:
        print(f"\n{swept.table()}\n\n{total.counted}")
    for out in dict.fromkeys(one.cell.settings["out"] for one in done):
        print(f"next: python -m jobs.aggregate out={out}")
    return swept.status


def sweep(found: Sweep) -> int:
    """Rows of curves, of many cells."""
    return complete_all("curves", CURVES, found, located)


@entry_point("evaluate", EvaluateConfig, sweep=sweep)
def main(settings: dict[str, Any]) -> None:
    """Rows of curves."""
    complete("curves", located(settings))


if __name__ == "__main__":
    main()
