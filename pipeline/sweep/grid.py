"""Every combination of what is swept."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline import UsageError
from pipeline.sweep import Axis


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All cells at once. `fail_fast`: the first cell that goes wrong ends the sweep."""

    adaptive: ClassVar[bool] = False
    fail_fast: bool = False


def combinations(axes: Sequence[Axis]) -> Iterator[dict[str, str]]:
    """Options of each, the last axis fastest, each once. Raises UsageError for an interval."""
    for axis in axes:
        if not axis.values:
            raise UsageError(
                f"{axis.option}: an interval has no grid; give values, range() or sweep=optuna"
            )
    names = [axis.option for axis in axes]
    for values in dict.fromkeys(itertools.product(*(axis.values for axis in axes))):
        yield dict(zip(names, values, strict=True))
