"""A sweep: one command over many combinations of settings, its cells.

Every cell is a run like any other; together they share a run directory's lock, one Ray, a model's
actors, orders and rows (`pipeline.workers.workshop`). A grid computes all of them at once, an
adaptive search one after another, by what came out of those before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline import RunError, UsageError


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An option that is swept and what it may be: one of `values`, written as on a command line, or
    a number from `low` to `high`, drawn on a `log` scale, a `whole` one."""

    option: str
    values: Sequence[str] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Combination:
    """A cell as it is asked for: a value for each swept option, and the settings that they make, or
    what is wrong with them."""

    options: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    error: UsageError | RunError | None = None

    @property
    def name(self) -> str:
        """Its options as they are given."""
        return named(self.options)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a command line sweeps over. `how`: the settings of the sweep itself, a component;
    `compose` makes a combination of values, which has an error where they cannot work."""

    axes: Sequence[Axis]
    how: Mapping[str, Any]
    compose: Callable[[Mapping[str, str]], Combination]


def named(options: Mapping[str, str]) -> str:
    """Options as they are given on a command line."""
    return " ".join(f"{option}={value}" for option, value in options.items())
