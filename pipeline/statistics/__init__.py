"""Rows to statistics, whatever the study: groups, intervals, comparisons and their doubts.

One idea a file; docs/statistics.md says which question each answers and where it comes from.
"""

from collections.abc import Mapping
from typing import Any

from pipeline import UsageError
from pipeline.statistics.bootstrap import Band, bootstrap_weights, intervals
from pipeline.statistics.files import completed, keep, save
from pipeline.statistics.groups import (
    LABELS,
    SUBSETS,
    Rows,
    failed,
    grouped,
    n_images,
    selected,
)

DEFAULTS = {
    "cluster": None,
    "quantity": "value",
    "against": None,
    "margin": 0.0,
    "by": None,
    "cheap": None,
    "exact": None,
    "plugins": (),
}
"""Settings of jobs.aggregate that change nothing unless they are given."""

__all__ = [
    "DEFAULTS",
    "LABELS",
    "SUBSETS",
    "Band",
    "Rows",
    "bootstrap_weights",
    "check",
    "completed",
    "failed",
    "grouped",
    "intervals",
    "keep",
    "n_images",
    "save",
    "selected",
]


def check(settings: Mapping[str, Any]) -> None:
    """Raise UsageError for settings out of range."""
    if settings["subset"] not in SUBSETS and ":" not in settings["subset"]:
        known = ", ".join((*SUBSETS, "<attribute>:<value>"))
        raise UsageError(f"subset={settings['subset']!r}: use one of {known}")
    for name, least in (("grid", 2), ("resamples", 1), ("gallery", 0)):
        if settings[name] < least:
            raise UsageError(f"{name}={settings[name]}: give at least {least}")
    if (settings.get("cheap") is None) != (settings.get("exact") is None):
        raise UsageError("cheap and exact are the two methods of one estimate: give both or none")
    if not 0 < settings["confidence"] < 1:
        raise UsageError(f"confidence={settings['confidence']}: it lies between 0 and 1")
