"""Plain settings to what every study needs of them: model, data, components, provenance."""

import json
import platform
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import version
from typing import Any

from pipeline import UsageError
from pipeline.components import component
from pipeline.data.shards import Shards
from pipeline.models import PRECISIONS, Model
from pipeline.redaction import redacted
from pipeline.work import SCHEMA_VERSION, Work

LABELS = ("_target_", "name", "weights", "prototypes", "match", "label")
"""Settings of a model that do not say what it is: its weights, prototypes among them, are known by
their hash, its network by `_architecture`."""
LATER = (("output", "softmax"),)
"""Defaults of settings that came when rows of models were already out there."""


def dataset(settings: Mapping[str, Any]) -> Shards:
    """The data set alone, without a model."""
    return part(settings, "dataset")


def part(settings: Mapping[str, Any], name: str) -> Any:
    """The component that stands at `name`."""
    return component(settings[name], name, settings.get("plugins", ()))


def methods(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Methods by the names that the settings give them."""
    return {
        name: component(node, f"methods.{name}", settings.get("plugins", ()))
        for name, node in settings["methods"].items()
    }


def load(settings: Mapping[str, Any], device: str) -> Model:
    """The model. Raises UsageError for one that cannot be loaded."""
    precision = settings["engine"]["precision"]
    if precision not in PRECISIONS:
        raise UsageError(f"engine.precision={precision!r}: use one of {list(PRECISIONS)}")
    return part(settings, "model").load(device, precision, settings.get("plugins", ()))


def model_settings(settings: Mapping[str, Any]) -> str:
    """All settings that a loaded model depends on, as text."""
    of = (settings["model"], settings["engine"]["precision"], settings.get("plugins", ()))
    return json.dumps(of, sort_keys=True)


def explained(settings: Mapping[str, Any], model: Model) -> tuple[Shards, dict[str, Any]]:
    """The data, and what every content address says of them and of the model, which is loaded.

    Raises UsageError for whatever does not fit together.
    """
    if not settings["methods"]:
        raise UsageError("methods is empty: choose some, such as methods=[moxi_insertion,gradcam]")
    data = dataset(settings)
    shared = {
        "schema": SCHEMA_VERSION,
        "weights": model.weights_hash,
        "preprocessing": model.preprocessing,
        "architecture": _architecture(model, settings["model"]),
        "model": {
            name: value
            for name, value in settings["model"].items()
            if name not in LABELS and (name, value) not in LATER
        },
        "dataset": {k: settings["dataset"][k] for k in ("name", "label", "exif")},
        "target": target(settings, data),  # a class by its index, however it is named
        "precision": settings["engine"]["precision"],
    }
    return data, shared


def _architecture(model: Model, node: Mapping[str, Any]) -> str:
    """What computes: one network under several names, or in several folders, is the same."""
    known = getattr(model.module, "pretrained_cfg", None) or {}
    return str(known.get("architecture") or node.get("name") or type(model.module).__name__)


def target(settings: Mapping[str, Any], data: Shards) -> Any:
    """`prediction`, `label`, or the index of the class that is named."""
    given = settings["target"]
    if given in ("prediction", "label"):
        return given
    if given.isdigit():
        return int(given)
    names = data.names() or []
    if given in names:
        return names.index(given)
    close = get_close_matches(given, names, 3, 0.5)
    hint = f"; close: {', '.join(close)}" if close else "" if names else "; set dataset.class_names"
    raise UsageError(
        f"target={given!r}: use 'prediction' or 'label', a class index or a class name{hint}"
    )


def provenance(settings: Mapping[str, Any], work: Work) -> dict[str, Any]:
    """What every result file says of how it was made: JSON-like, complete, without secrets."""
    packages = ("pixel-quorum", "torch", "torchvision", "timm", "torchcam", "ray", "pyarrow")
    return {
        "schema_version": SCHEMA_VERSION,
        "config": redacted(json.loads(json.dumps(settings))),
        "fingerprints": dict(work.fingerprints),
        "wanted": [list(pair) for pair in work.wanted],
        "weights_hash": work.model.weights_hash,
        "preprocessing": json.loads(json.dumps(work.model.preprocessing)),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }
