"""Hold a checkpoint against a baseline, on the baseline's images: pass, regression or inconclusive.

    python -m jobs.evaluate dataset=... model.label=v1 out=runs/v1
    python -m jobs.reevaluate promote=true baseline=main out=runs/v1
    python -m jobs.reevaluate baseline=main out=runs/nightly model.weights=new.pth model.label=v2

The last command is for every night: it computes what is missing in `out` with the baseline's own
settings and compares image by image. Exit status 0 pass (or not decided), 3 regression, 4 not
decided and strict=true. docs/reevaluation.md explains it.
"""

import sys
from dataclasses import MISSING as NONE
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from jobs.evaluate import EvaluateConfig, complete
from pipeline import tracking
from pipeline.config import entry_point
from pipeline.config.limits import (
    above,
    at_least,
    between,
    check,
    directory,
    inside,
    one_of,
    setting,
)
from pipeline.config.schema import ClusterConfig, LockConfig, TrackingConfig
from pipeline.reevaluation import baselines, judging
from pipeline.reevaluation.baselines import Baseline
from pipeline.rows import RunDir, Storage
from pipeline.studies.curves.orders import located
from pipeline.studies.curves.rows import CURVES
from pipeline.studies.curves.shown import pictures

EXIT = {"pass": 0, "regression": 3, "inconclusive": 0}
UNDECIDED = 4
"""Exit status where nothing is decided and strict=true."""


@dataclass
class ToleranceConfig:
    """How much worse each may be, on average over images; null: not looked at."""

    auc: float | None = setting(0.02, above(0))
    orders: float | None = setting(0.2, above(0))
    flips: float | None = setting(0.05, inside(0, 1))
    moved: float | None = setting(0.05, above(0))


@dataclass
class BoxesConfig:
    """Where samples say in which boxes their object lies."""

    field: str | None = "boxes"
    form: str = setting("xyxy", one_of("xyxy", "xywh"))


@dataclass
class ReevaluateConfig:
    """Settings: see conf/reevaluate.yaml."""

    out: str = setting(MISSING, directory())
    baseline: str = MISSING
    baselines: str = setting("baselines", directory())
    promote: bool = False
    where: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    shards: Any = None
    tolerance: ToleranceConfig = field(default_factory=ToleranceConfig)
    boxes: BoxesConfig = field(default_factory=BoxesConfig)
    strict: bool = False
    confidence: float = setting(0.95, inside(0, 1))
    power: float = setting(0.8, inside(0, 1))
    resamples: int = setting(2000, at_least(1))
    seed: int = setting(0, at_least(0))
    top: float = setting(0.1, between(0, 1))
    gallery: int = setting(12, at_least(0))
    history: str = MISSING
    retry: str = setting("none", one_of("none", "failed"))
    max_failed: float = setting(0.05, between(0, 1))
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    lock: LockConfig = field(default_factory=LockConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    plugins: list[str] = field(default_factory=list)


@entry_point("reevaluate", ReevaluateConfig)
def main(settings: dict[str, Any]) -> None:
    """Promote, or evaluate and decide."""
    if settings["promote"]:
        promote(settings)
        return
    tracking.check(settings)
    base = baselines.found(settings["baselines"], settings["baseline"], CURVES, settings["where"])
    asked = wanted(settings, base)
    prints = complete("curves", located(asked)).fingerprints
    night, new = judging.judged(settings, base, dict(prints), CURVES, pictures)
    if new:
        tracking.log_verdict(settings, night.record(), night.lines())
    print("\n".join([night.table().text(), *night.notes, *night.lines()]))
    print(f"report: {settings['out'].rstrip('/')}/report/reevaluation.html")
    strict = settings["strict"] and night.word == "inconclusive"
    sys.exit(UNDECIDED if strict else EXIT[night.word])


def promote(settings: dict[str, Any]) -> None:
    """Point the baseline's name at what `out` holds: its last checkpoint, or what `where` says."""
    run = RunDir(settings["out"], CURVES)
    where = settings["where"] or judging.last(run)
    one = baselines.baseline(run, where, settings["baseline"])
    baselines.settings(one, CURVES, settings["plugins"])  # it can be done again
    place = str(Path(run.out).resolve()) if run.is_local and "://" not in run.out else run.out
    path = baselines.promote(settings["baselines"], one, place)
    print(f"{path}: {one.name} is {one.model} ({one.weights}) in {place}, {one.images} images")


def wanted(settings: dict[str, Any], base: Baseline) -> dict[str, Any]:
    """The baseline's settings with another model or place, on its images: as jobs.evaluate takes
    them."""
    config = baselines.settings(base, CURVES, settings["plugins"])
    asked = {f.name: _default(f) for f in fields(EvaluateConfig)} | config
    asked |= {name: settings[name] for name in ("out", "cluster", "lock", "tracking", "retry")}
    asked["max_failed"] = settings["max_failed"]
    given = {name: value for name, value in settings["model"].items() if value is not None}
    if "weights" in given and "label" in asked["model"]:
        given = {"label": None} | given  # the baseline's label would be a false name
    asked["model"] = dict(asked["model"]) | given
    run = Storage(settings["out"])
    run.write(run.path("pinned.txt"), baselines.pinned(base, CURVES).encode())
    chosen = {"keys": f"{settings['out'].rstrip('/')}/pinned.txt", "limit": None, "seed": None}
    if settings["shards"]:
        chosen["shards"] = settings["shards"]
    asked["dataset"] = dict(asked["dataset"]) | chosen
    check(asked, EvaluateConfig)
    return asked


def _default(one: Any) -> Any:
    """Of a setting that a baseline's release did not have."""
    value = one.default if one.default is not NONE else one.default_factory()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


if __name__ == "__main__":
    main()
