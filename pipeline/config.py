"""Typed run settings, and the one place that makes objects of them.

`resolve` turns a composed config into plain values that travel to workers and into files; `build`
instantiates them. Only classes of this project can be named by `_target_`.
"""

import json
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline import RunError, UsageError
from pipeline.data.shards import Shards
from pipeline.evaluate import Evaluation
from pipeline.methods.undesirable import Undesirable
from pipeline.models import PRECISIONS, Model
from pipeline.undesirable.controls import CONTROLS
from pipeline.undesirable.evaluate import UndesirableEvaluation
from pipeline.work import SCHEMA_VERSION, Work, fingerprint

CONF = Path(__file__).resolve().parent.parent / "conf"
_ROLES = ("model", "players", "masking", "curve_masking")


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
    placement_timeout_s: float = 600.0
    image_deadline_s: float = 3600.0
    tries: int = 3


@dataclass
class TrackingConfig:
    """W&B: see conf/tracking."""

    mode: str = "offline"
    project: str = "pixel-quorum"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class EvaluateConfig:
    """Settings of jobs.evaluate."""

    out: str = MISSING
    dataset: Any = MISSING
    model: Any = MISSING
    players: Any = MISSING
    masking: Any = MISSING
    curve_masking: Any = MISSING
    methods: dict[str, Any] = field(default_factory=dict)
    target: str = "prediction"
    engine: EngineConfig = field(default_factory=EngineConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass
class UndesirableConfig:
    """Settings of jobs.undesirable."""

    out: str = MISSING
    dataset: Any = MISSING
    model: Any = MISSING
    methods: dict[str, Any] = field(default_factory=dict)
    target: str = "prediction"
    trials: int = 1
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))
    greedy_grid: int = 14
    engine: EngineConfig = field(default_factory=EngineConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass
class PlanConfig(EvaluateConfig):
    """Settings of jobs.plan: those of jobs.evaluate, and how many images are timed."""

    timed_images: int = 4


@dataclass
class CompareConfig:
    """Settings of jobs.compare."""

    out: str = MISSING
    against: str = MISSING


@dataclass
class SelectConfig:
    """Settings of jobs.select."""

    out: str = MISSING
    keys: str = MISSING
    per_class: int = 1
    classes: list[int] | None = None


@dataclass
class AggregateConfig:
    """Settings of jobs.aggregate."""

    out: str = MISSING
    subset: str = "all"
    grid: int = 101
    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0
    gallery: int = 24
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass
class DemoConfig:
    """Settings of jobs.demo."""

    out: str = MISSING
    samples_per_shard: int = 4


@dataclass
class CompositesConfig:
    """Composites of digits: see conf/setsum.yaml."""

    test: int = 2000
    test_share: float = 0.2


@dataclass
class TrainingConfig:
    """How the Set-Sum classifier is trained: see conf/setsum.yaml."""

    steps: int = 3500
    batch: int = 128
    rate: float = 1e-3
    weight_decay: float = 0.05
    softness: float = 1.0
    blanking: bool = True


@dataclass
class SetSumConfig(EvaluateConfig):
    """Settings of jobs.setsum: those of an evaluation, and what it stands on."""

    seed: int = 0
    composites: CompositesConfig = field(default_factory=CompositesConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    resamples: int = 2000
    confidence: float = 0.95


_store = ConfigStore.instance()
_store.store(name="evaluate_schema", node=EvaluateConfig)
_store.store(name="undesirable_schema", node=UndesirableConfig)
_store.store(name="select_schema", node=SelectConfig)
_store.store(name="plan_schema", node=PlanConfig)
_store.store(name="compare_schema", node=CompareConfig)
_store.store(name="aggregate_schema", node=AggregateConfig)
_store.store(name="demo_schema", node=DemoConfig)
_store.store(name="setsum_schema", node=SetSumConfig)


def entry_point(
    name: str,
) -> Callable[[Callable[[dict[str, Any]], int | None]], Callable[[], None]]:
    """Make a job of a function from plain settings to an exit status.

    A usage error, Hydra's or ours, is one line on standard error and exit status 2; work that had
    to stop is one line and exit status 1.
    """

    def wrap(job: Callable[[dict[str, Any]], int | None]) -> Callable[[], None]:
        @hydra.main(config_path=str(CONF), config_name=name, version_base="1.3")
        def composed(config: DictConfig) -> None:
            try:
                status = job(resolve(config, dict(HydraConfig.get().runtime.choices)))
            except UsageError as error:
                _usage(error)
            except RunError as error:
                sys.exit(f"error: {_one_line(error)}")
            sys.exit(status or 0) if status else None

        def main() -> None:
            overrides = [a for a in sys.argv[1:] if not a.startswith("-")]
            if len(overrides) == len(sys.argv) - 1:  # flags such as --help and -m are Hydra's own
                try:
                    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
                        hydra.compose(name, overrides)
                except (HydraException, OmegaConfBaseException) as error:
                    _usage(_unknown_choice(error) or error)
            composed()

        main.__doc__ = job.__doc__
        return main

    return wrap


def resolve(config: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Plain settings: interpolations resolved, names of the chosen components under `names`.

    Raises UsageError where a required value is missing.
    """
    for name in _missing(OmegaConf.to_container(config, resolve=False)):
        raise UsageError(f"{name} is not set: give {name}=<value>")
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    settings["names"] = {
        role: str(choices.get("masking@curve_masking" if role == "curve_masking" else role, ""))
        for role in _ROLES
    }
    return settings


def component(node: Mapping[str, Any]) -> Any:
    """Instantiate one `_target_` of this project; nothing else is ever imported."""
    target = str(node.get("_target_"))
    if not target.startswith("pipeline."):
        raise UsageError(
            f"_target_: {target} is not part of pipeline; only its classes may be named"
        )
    try:
        return instantiate(dict(node), _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, UsageError):
            raise cause from None
        raise UsageError(f"{target}: {_one_line(cause or error)}") from None


def dataset(settings: Mapping[str, Any]) -> Shards:
    """The data set alone, without a model."""
    return component(settings["dataset"])


def build(settings: Mapping[str, Any], device: str = "cpu") -> Work:
    """The work that settings describe, its model loaded on `device`.

    Raises UsageError for whatever does not fit together.
    """
    return (_masks if "trials" in settings else curves)(settings, device)


def curves(settings: Mapping[str, Any], device: str = "cpu") -> Evaluation:
    """The work of jobs.evaluate."""
    model, data, shared = _explained(settings, device)
    shared |= {k: settings[k] for k in ("players", "masking", "curve_masking")}
    return Evaluation(
        data=data,
        model=model,
        players=component(settings["players"]),
        masking=component(settings["masking"]),
        curve_masking=component(settings["curve_masking"]),
        methods={name: component(node) for name, node in settings["methods"].items()},
        names=settings["names"],
        fingerprints=_fingerprints(settings, shared),
        target=_target(settings["target"], data),
    )


def _masks(settings: Mapping[str, Any], device: str) -> UndesirableEvaluation:
    """The work of jobs.undesirable."""
    model, data, shared = _explained(settings, device)
    shared |= {"controls": sorted(settings["controls"]), "greedy_grid": settings["greedy_grid"]}
    variants = {name: component(node) for name, node in settings["methods"].items()}
    for name, variant in variants.items():
        if not isinstance(variant, Undesirable):
            raise UsageError(
                f"methods: {name} optimises no mask; use undesirable_base, f_tc, f_ntc"
            )
    return UndesirableEvaluation(
        data=data,
        model=model,
        variants=variants,
        trials=settings["trials"],
        controls=settings["controls"],
        greedy_grid=settings["greedy_grid"],
        name=settings["names"]["model"],
        fingerprints=_fingerprints(settings, shared),
        target=_target(settings["target"], data),
    )


def _fingerprints(settings: Mapping[str, Any], shared: dict[str, Any]) -> dict[str, str]:
    return {
        name: fingerprint(shared | {"method": name, "settings": node})
        for name, node in settings["methods"].items()
    }


def _explained(settings: Mapping[str, Any], device: str) -> tuple[Model, Shards, dict[str, Any]]:
    """Model and data, and what every fingerprint says of them."""
    precision = settings["engine"]["precision"]
    if precision not in PRECISIONS:
        raise UsageError(f"engine.precision={precision!r}: use one of {list(PRECISIONS)}")
    if not settings["methods"]:
        raise UsageError("methods is empty: choose some, such as methods=[moxi_insertion,gradcam]")
    model = component(settings["model"]).load(device, precision)
    data = dataset(settings)
    shared = {
        "schema": SCHEMA_VERSION,
        "weights": model.weights_hash,
        "preprocessing": model.preprocessing,
        "model": {k: v for k, v in settings["model"].items() if k not in ("weights", "match")},
        "dataset": {k: settings["dataset"][k] for k in ("name", "label", "exif")},
        "names": settings["names"],
        "target": settings["target"],
        "precision": precision,
    }
    return model, data, shared


def _target(target: str, data: Shards) -> Any:
    """`prediction`, `label`, or the index of the class that is named."""
    if target in ("prediction", "label"):
        return target
    if target.isdigit():
        return int(target)
    names = data.names() or []
    if target in names:
        return names.index(target)
    close = get_close_matches(target, names, 3, 0.5)
    hint = f"; close: {', '.join(close)}" if close else "" if names else "; set dataset.class_names"
    raise UsageError(
        f"target={target!r}: use 'prediction' or 'label', a class index or a class name{hint}"
    )


def provenance(settings: Mapping[str, Any], work: Work) -> dict[str, Any]:
    """What every result file says of how it was made: JSON-like, complete, without secrets."""
    packages = ("pixel-quorum", "torch", "torchvision", "timm", "torchcam", "ray", "pyarrow")
    return {
        "schema_version": SCHEMA_VERSION,
        "config": json.loads(json.dumps(settings)),
        "fingerprints": dict(work.fingerprints),
        "weights_hash": work.model.weights_hash,
        "preprocessing": json.loads(json.dumps(work.model.preprocessing)),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }


def _missing(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of required values that nobody gave."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _missing(value, f"{prefix}.{name}" if prefix else str(name))
    elif node == MISSING:
        yield prefix


def _unknown_choice(error: Exception) -> UsageError | None:
    """Say what there is to choose from; Hydra's own message does not always."""
    match = re.search(r"Could not (?:find|load) '(.+)/([^/']+)'", str(error))
    if not match or not (CONF / match[1]).is_dir():
        return None
    group, choice = match.groups()
    known = ", ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))
    return UsageError(f"{group}/{choice} does not exist: choose {group} from {known}")


def _usage(error: Exception) -> None:
    print(f"error: {_one_line(error)}", file=sys.stderr)
    sys.exit(2)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
