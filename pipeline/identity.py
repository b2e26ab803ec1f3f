"""What a result is called and where it lives: content addresses, versions, true names.

An address is a hash of what was built (classes, their versions, their settings), never of how a
configuration file names it.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

LATER = {"added": "later"}
"""Metadata of a dataclass's field that was added when rows of the class were already out there."""


def fingerprint(content: Any) -> str:
    """Content address of a JSON-like value: SHA-256 of its canonical form, 16 hex digits.

    Key order does not matter, nor whether a whole number is written 1 or 1.0.
    """

    def canonical(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): canonical(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [canonical(v) for v in value]
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    text = json.dumps(canonical(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content(component: Any) -> Any:
    """What a component is: its class, the class's `version` and its settings, nested ones too."""
    if dataclasses.is_dataclass(component):
        kind = type(component)
        own = getattr(component, "identity", None)  # of files, what they hold
        settings = _addressed(component) if own is None else dict(own)
        version = getattr(kind, "version", 1)
        return {"class": f"{kind.__module__}.{kind.__qualname__}", "version": version} | settings
    if isinstance(component, list | tuple):
        return [content(value) for value in component]
    if isinstance(component, Mapping):
        return {str(key): content(value) for key, value in component.items()}
    return component


def name_of(component: Any) -> str:
    """What rows call a component: what it says itself (`__str__`), or its class in lower case with
    the settings that differ from their defaults, such as blur(sigma=3)."""
    kind = type(component)
    if kind.__str__ is not object.__str__:
        return str(component)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()
    return with_changes(component, name) if dataclasses.is_dataclass(component) else name


def with_changes(component: Any, name: str, said: Sequence[str] = ()) -> str:
    """`name` with the settings of a dataclass that differ from their defaults, but for those that
    are `said` in it."""
    changed = [
        f"{field.name}={_said(value)}"
        for field in _settings(component)
        for value in [getattr(component, field.name)]
        if field.name not in said and value != _default(field)
    ]
    return f"{name}({', '.join(changed)})" if changed else name


def _addressed(component: Any) -> dict[str, Any]:
    """Settings; those that came later only where they differ from their default, so that rows made
    before keep their address."""
    return {
        f.name: content(getattr(component, f.name))
        for f in _settings(component)
        if f.metadata != LATER or getattr(component, f.name) != f.default
    }


def _said(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return name_of(value)
    return f"{value:g}" if type(value) is float else str(value)


def _default(setting: dataclasses.Field) -> Any:
    factory = setting.default_factory
    return setting.default if factory is dataclasses.MISSING else factory()


def _settings(component: Any) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(component) if f.init]
