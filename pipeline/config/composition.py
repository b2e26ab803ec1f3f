"""YAML files and overrides to plain settings, or to one line that says what is wrong with them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import pipeline
from pipeline import UsageError
from pipeline.components import check_plugins, check_targets, one_line, suggestion
from pipeline.config import limits

CONF = Path(pipeline.__file__).resolve().parent.parent / "conf"
"""Beside the package, in a checkout as where it is installed."""


def compose(job: str, overrides: Sequence[str]) -> DictConfig:
    """A job's settings as Hydra composes them, its own node `hydra` included."""
    GlobalHydra.instance().clear()  # a job that is under way may compose another's settings
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(job, list(overrides), return_hydra_config=True)


def resolve(config: DictConfig, schema: type, *, here: bool = True) -> dict[str, Any]:
    """Plain settings, interpolations resolved, for a job that runs `here` or elsewhere.

    Raises UsageError where a required value is missing, where a key is not part of the schema,
    where a value is beyond its field's limit, and for what may not be instantiated.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("hydra", None)
    _check_keys(plain, schema)
    for name in _missing(plain):
        raise UsageError(f"{name} is not set: give {name}=<value>")
    try:
        settings: Any = OmegaConf.to_container(
            OmegaConf.masked_copy(config, list(plain)), resolve=True
        )
    except OmegaConfBaseException as error:
        raise UsageError(one_line(error)) from None
    if not str(settings.get("out", "-")).strip():
        raise UsageError("out is empty: give out=<directory>")
    limits.check(settings, schema, here=here)
    plugins = settings.get("plugins", [])
    check_plugins(plugins)
    check_targets(settings, plugins)
    return settings


def _check_keys(plain: Mapping[str, Any], schema: type, prefix: str = "") -> None:
    """Refuse keys that `+key=value` has added where the schema knows every key."""
    known = {field.name: field.type for field in dataclasses.fields(schema)}
    for name, value in plain.items():
        if name not in known:
            raise UsageError(f"+{prefix}{name}: no such setting; {suggestion(name, list(known))}")
        if dataclasses.is_dataclass(known[name]) and isinstance(value, Mapping):
            _check_keys(value, known[name], f"{prefix}{name}.")  # type: ignore[arg-type]


def _missing(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of required values that nobody gave."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _missing(value, f"{prefix}.{name}" if prefix else str(name))
    elif node == MISSING:
        yield prefix
