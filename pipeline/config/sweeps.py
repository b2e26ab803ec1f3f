"""`key=a,b` with -m, as Hydra parses it: axes of a sweep, and cells composed of them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from pipeline import UsageError
from pipeline.config.composition import CONF
from pipeline.sweep import Axis, Combination, Sweep

Compose = Callable[[Sequence[str]], dict[str, Any]]
"""Overrides to settings; raises UsageError."""


def parsed(given: Sequence[str], compose: Compose) -> Sweep:
    """The sweep that overrides describe. `compose`'s settings say under `sweep` how it is made.

    Raises UsageError where nothing is swept; Hydra's errors for what it cannot parse.
    """
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        loader: Any = GlobalHydra.instance().config_loader()
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(given))
        axes = [_axis(override) for override in overrides if override.is_sweep_override()]
    fixed = [str(o.input_line) for o in overrides if not o.is_sweep_override()]
    if not axes:
        raise UsageError("-m: nothing is swept; give an option several values, key=a,b")

    def of(options: Mapping[str, str]) -> Combination:
        try:
            settings = compose([*fixed, *(f"{key}={value}" for key, value in options.items())])
        except UsageError as error:
            return Combination(options=options, error=error)
        settings.pop("sweep")
        return Combination(options=options, settings=settings)

    return Sweep(axes=axes, how=_how(fixed, axes, compose), compose=of)


def _how(fixed: Sequence[str], axes: Sequence[Axis], compose: Compose) -> dict[str, Any]:
    """The settings of the sweep, as the first cell has them, or else the last, or else as given."""
    for place in (0, -1):
        with suppress(UsageError):
            ends = [f"{axis.option}={_ends(axis)[place]}" for axis in axes]
            return dict(compose([*fixed, *ends])["sweep"])
    chosen = [one for one in fixed if one.startswith(("sweep=", "sweep.", "+sweep."))]
    return dict(compose([*chosen, "dataset.name=-", "dataset.shards=-", "out=."])["sweep"])


def _ends(axis: Axis) -> Sequence[str]:
    if axis.values:
        return axis.values
    return [f"{int(end) if axis.whole else end}" for end in (axis.low, axis.high)]


def _axis(override: Override) -> Axis:
    key, sweep = override.get_key_element(), override.value()
    tags = set(getattr(sweep, "tags", ()))
    if not isinstance(sweep, IntervalSweep):
        return Axis(option=key, values=list(override.sweep_string_iterator()))
    if unknown := sorted(tags - {"log", "int"}):
        raise UsageError(f"{key}: tag {unknown[0]!r} says nothing; use log or int")
    low, high = sweep.start, sweep.end
    if low is None or high is None or not low < high or ("log" in tags and low <= 0):
        raise UsageError(f"{key}: interval({low},{high}): give low, high; above 0 for log")
    return Axis(option=key, low=low, high=high, log="log" in tags, whole="int" in tags)
