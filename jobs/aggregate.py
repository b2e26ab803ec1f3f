"""Turn the rows of a run into summary.parquet, summary.csv, curves.parquet, tables/, a W&B run and
a report.

Methods are compared image by image: comparisons.parquet, standings.parquet and others beside. Of a
sweep also sweep.parquet and sweep.csv, a row a cell, and maps over two swept options.

    python -m jobs.aggregate out=runs/pets tracking=online
    python -m jobs.aggregate out=runs/pets against=gradcam margin=0.01 cluster=label
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline import statistics, studies, tracking
from pipeline.config import entry_point
from pipeline.config.limits import at_least, directory, inside, one_of, setting
from pipeline.config.schema import TrackingConfig
from pipeline.report import page
from pipeline.report.tables import Table
from pipeline.rows import Storage
from pipeline.studies.curves.sums import QUANTITIES
from pipeline.sweep import beside, cells


@dataclass
class AggregateConfig:
    """Settings: see conf/aggregate.yaml."""

    out: str = setting(MISSING, directory())
    subset: str = "all"
    quantity: str = setting("value", one_of(*QUANTITIES))
    against: str | None = None
    margin: float = setting(0.0, at_least(0))
    cluster: str | None = None
    by: str | None = None
    cheap: str | None = None
    exact: str | None = None
    grid: int = setting(101, at_least(2))
    resamples: int = setting(2000, at_least(1))
    confidence: float = setting(0.95, inside(0, 1))
    seed: int = setting(0, at_least(0))
    gallery: int = setting(24, at_least(0))
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    plugins: list[str] = field(default_factory=list)


@entry_point("aggregate", AggregateConfig)
def main(settings: dict[str, Any]) -> None:
    """Whatever a run is about: files first, W&B last; prints the tables."""
    statistics.check(settings)
    tracking.check(settings)
    run = Storage(settings["out"])
    found = studies.findings(settings)
    swept = cells.read(run)
    lines = beside.lines(swept, [score for one in found for score in one.scores])
    for one in found:
        statistics.save(run, one.name, beside.labelled(one.summary, swept))
        for name, rows in one.files.items():
            statistics.keep(run, name, rows)
        for name, table in one.tables.items():
            for extension, content in table.files().items():
                run.write(run.path(f"tables/{name}.{extension}"), content.encode())
    told = [one.table for one in found]
    if lines:
        told.append(_save(run, lines).text())
    notes = [note for one in found if (note := statistics.failed(one.run))]
    sections = [beside.section(lines)] if lines else []
    sections += [one.section(settings["gallery"]) for one in found]
    place = page.write(run, sections, confidence=settings["confidence"], notes=notes)
    tracking.log_aggregation(settings, found)
    for line in lines:
        tracking.log_cell(settings, line.options, {t: s.value for t, s in line.scores.items()})
    print("\n\n".join(told))
    for note in notes:
        print(note)
    print(f"report: {place}")


def _save(run: Storage, lines: Sequence[beside.Line]) -> Table:
    """The cells of a sweep, side by side: sweep.parquet, sweep.csv and in tables/."""
    table = beside.table(lines)
    statistics.save(run, "sweep", table.records)
    for extension, content in table.files().items():
        run.write(run.path(f"tables/sweep.{extension}"), content.encode())
    return table


if __name__ == "__main__":
    main()
