"""Compare two runs of the same games, image by image: orders, predictions, areas under curves.

python -m jobs.evaluate experiment=quickstart out=runs/fp32
python -m jobs.evaluate experiment=quickstart out=runs/bf16 engine.precision=bf16
python -m jobs.compare out=runs/bf16 against=runs/fp32

Rows of other games are refused or counted, never mixed; across=[model] compares two models. Writes
drift.parquet, drift.csv, drift.md and report/drift.html into `out`. Exit status 3 where a threshold
of `fail_if` is exceeded.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline.compare.agreement import agreements, table
from pipeline.compare.drift import drift
from pipeline.compare.files import save
from pipeline.compare.matching import matched
from pipeline.compare.page import section
from pipeline.compare.thresholds import exceeded
from pipeline.config import entry_point
from pipeline.config.limits import at_least, between, inside, setting
from pipeline.report import page
from pipeline.rows import RunDir
from pipeline.studies.curves.rows import CURVES
from pipeline.studies.curves.shown import pictures

FAILED = 3
"""Exit status where the two differ more than they may."""


@dataclass
class FailIfConfig:
    """Thresholds on every game, method and objective: see conf/compare.yaml."""

    same_order: float | None = setting(None, between(0, 1))
    same_picks: float | None = setting(None, between(0, 1))
    overlap: float | None = setting(None, between(0, 1))
    iou: float | None = setting(None, between(0, 1))
    spearman: float | None = setting(None, between(-1, 1))
    kendall: float | None = setting(None, between(-1, 1))
    flips: float | None = setting(None, between(0, 1))
    loss: float | None = setting(None, at_least(0))
    change: float | None = setting(None, at_least(0))


@dataclass
class CompareConfig:
    """Settings: see conf/compare.yaml."""

    out: str = MISSING
    against: str = MISSING
    across: list[str] = field(default_factory=list)
    where: dict[str, Any] = field(default_factory=dict)
    against_where: dict[str, Any] = field(default_factory=dict)
    top: float = setting(0.1, between(0, 1))
    resamples: int = setting(2000, at_least(1))
    confidence: float = setting(0.95, inside(0, 1))
    seed: int = setting(0, at_least(0))
    gallery: int = setting(12, at_least(0))
    fail_if: FailIfConfig = field(default_factory=FailIfConfig)
    plugins: list[str] = field(default_factory=list)


@entry_point("compare", CompareConfig)
def main(settings: dict[str, Any]) -> None:
    """A line for each game, method and objective; files; what was not compared."""
    here, there = (RunDir(settings[name], CURVES) for name in ("out", "against"))
    pairs = matched(
        here,
        there,
        across=settings["across"],
        where=(settings["where"], settings["against_where"]),
    )
    rows = drift(pairs, settings["top"])
    bounds = {name: settings[name] for name in ("resamples", "seed", "confidence")}
    found = agreements(rows, **bounds)
    notes = pairs.notes((f"out={here.out}", f"against={there.out}"))
    save(here, rows, found)
    shown = section(
        (here, there),
        rows,
        found,
        names=("out", "against"),
        draw=pictures,
        gallery=settings["gallery"],
        plugins=settings["plugins"],
        notes=notes,
    )
    place = page.write(
        here,
        [shown],
        confidence=settings["confidence"],
        title="What has changed?",
        name="drift",
    )
    print("\n".join([table(found).text(), *notes, f"report: {place}"]))
    if beyond := exceeded(found, settings["fail_if"]):
        print("\n".join(beyond))
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
