"""Nights one after another: a record for each that differs, and how quantities went over them.

    <history>/<address>.json

The address is that of what was held against what, on which images, by which rule, so that the same
night again only moves `last`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import matplotlib.dates
import numpy as np
from markupsafe import Markup

from pipeline import UsageError
from pipeline.identity import fingerprint
from pipeline.reevaluation.verdicts import Verdict
from pipeline.report import Name, figures
from pipeline.rows import Storage

Record = Mapping[str, Any]


def record(address: Mapping[str, Any], said: Mapping[str, Any], now: str) -> dict[str, Any]:
    """What is kept of a night; `said`: baseline, checkpoint, verdict, each quantity's numbers."""
    return {"address": fingerprint(address), "first": now, "last": now} | dict(said)


def keep(place: str, night: Record) -> tuple[list[Record], bool]:
    """Write a night down; return all that are there by their first time, and whether it is new.

    Raises UsageError for a file that is no record.
    """
    nights = {one["address"]: one for one in read(place)}
    new = night["address"] not in nights
    night = dict(night)
    if not new:
        night["first"] = nights[night["address"]]["first"]
    folder = Storage(place)
    content = f"{json.dumps(night, indent=1)}\n".encode()
    folder.write(folder.path(f"{night['address']}.json"), content)
    nights[night["address"]] = night
    return sorted(nights.values(), key=lambda one: one["first"]), new


def read(place: str) -> list[Record]:
    """Every night."""
    folder = Storage(place)
    paths = [folder.path(name) for name in folder.names() if name.endswith(".json")]
    contents: Any = folder.fs.cat(paths) if paths else {}
    nights = []
    for path, content in contents.items():
        try:
            night = json.loads(content)
            whole = {"address", "first", "quantities"} <= set(night)
        except (ValueError, TypeError):
            whole = False
        if not whole:
            raise UsageError(f"{path} is no record of a night; move it away")
        nights.append(night)
    return nights


def numbers(verdict: Verdict) -> dict[str, Any]:
    """A verdict as a record holds it; NaN, which JSON lacks, is null."""
    return {
        k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(verdict).items()
    }


def trend(nights: Sequence[Record]) -> Markup:
    """Means with their intervals over the nights, a panel for each kind of quantity; its tolerance
    is the dotted line. Nothing of a single night."""
    if len(nights) < 2:
        return Markup("")
    kinds = list(dict.fromkeys(q["kind"] for night in nights for q in night["quantities"]))
    figure, panels = figures.panels(kinds)
    subjects = list(dict.fromkeys(q["subject"] for night in nights for q in night["quantities"]))
    parted = [subject.partition(", ") for subject in subjects]
    looks = figures.styles([Name(method=a or "all", variant=c, model="") for a, _, c in parted])
    for panel, kind in zip(panels, kinds, strict=True):
        for subject, look in zip(subjects, looks, strict=True):
            _line(panel, nights, kind, subject, look)
        limits = [q["tolerance"] for n in nights for q in n["quantities"] if q["kind"] == kind]
        panel.axhline(limits[-1], color="#a3262a", linestyle=":", lw=1.2)
        panel.xaxis.set_major_formatter(
            matplotlib.dates.ConciseDateFormatter(panel.xaxis.get_major_locator())
        )
        panel.tick_params(axis="x", labelsize=8)
    panels[0].set_ylabel("worse by")
    figures.legend(figure, panels[0])
    return figures.svg(figure, "trend", "how much worse, night by night, with intervals")


def _line(
    panel: Any, nights: Sequence[Record], kind: str, subject: str, look: Mapping[str, Any]
) -> None:
    points = [
        (datetime.fromisoformat(night["first"]), q)
        for night in nights
        for q in night["quantities"]
        if (q["kind"], q["subject"]) == (kind, subject) and q["mean"] is not None
    ]
    if not points:
        return
    times = matplotlib.dates.date2num([time for time, _ in points])
    means = np.array([q["mean"] for _, q in points])
    low, high = (np.array([q[side] for _, q in points]) for side in ("low", "high"))
    errors = np.clip([means - low, high - means], 0, None)
    style = dict(look) | {"markevery": 1, "marker": look["marker"] or "."}
    panel.errorbar(times, means, errors, lw=1.4, capsize=2, label=subject or "all", **style)
