"""What values a setting may have, said beside its field and checked before anything is computed."""

import dataclasses
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import UsageError

CONNECT_S = 3.0
"""How long a cluster's address may take to answer."""


class Limit(NamedTuple):
    """What a value has to be, in words and as a test; null is left to the field's type."""

    words: str
    holds: Callable[[Any], bool]
    here: bool = False  # it asks this machine, which may not be the one that computes


def setting(default: Any, limit: Limit) -> Any:
    """A dataclass field with a default and a limit."""
    return dataclasses.field(default=default, metadata={"limit": limit})


def at_least(low: float) -> Limit:
    """`low` or more."""
    return Limit(f"at least {low:g}", lambda value: value >= low)


def above(low: float) -> Limit:
    """More than `low`."""
    return Limit(f"more than {low:g}", lambda value: value > low)


def between(low: float, high: float) -> Limit:
    """Both ends included."""
    return Limit(f"a number from {low:g} to {high:g}", lambda value: low <= value <= high)


def inside(low: float, high: float) -> Limit:
    """Neither end included."""
    return Limit(f"a number between {low:g} and {high:g}", lambda value: low < value < high)


def one_of(*words: str) -> Limit:
    """One of these words."""
    return Limit(f"one of {', '.join(words)}", lambda value: value in words)


def whole_or_share() -> Limit:
    """What Ray can reserve of a GPU: a share of one, or several whole ones."""
    return Limit(
        "a share of a GPU above 0 and up to 1, or a whole number",
        lambda value: value > 0 and (value <= 1 or value == int(value)),
    )


def directory() -> Limit:
    """A folder that is there or can be made, or a URL, whose store has its own say."""
    return Limit("a directory that can be written to; this is none", _can_write, here=True)


def listening() -> Limit:
    """auto, local, or an address at which somebody accepts connections."""
    words = "the address of a running Ray, auto or null; nobody answers there"
    return Limit(words, _answers, here=True)


def check(
    settings: Mapping[str, Any], schema: type, prefix: str = "", *, here: bool = True
) -> None:
    """Raise UsageError at the first value that is beyond its field's limit; `here` is where the
    job is to run."""
    for field in dataclasses.fields(schema):
        value, name = settings.get(field.name), f"{prefix}{field.name}"
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            check(value or {}, field.type, f"{name}.", here=here)
        limit = field.metadata.get("limit")
        if limit is None or value is None or (limit.here and not here):
            continue
        if not limit.holds(value):
            raise UsageError(f"{name}={value}: give {limit.words}")


def _can_write(out: str) -> bool:
    if "://" in out and not out.startswith("file://"):
        return True
    path = Path(out.removeprefix("file://")).absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if address in ("auto", "local"):
        return True
    if not host or not port.isdigit():
        return False
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError):
        return False
    return True
