"""Turn the rows of a run into summary.parquet, summary.csv, tables/, a W&B run and a report.

Methods are compared image by image: comparisons.parquet, standings.parquet and others beside.

    python -m jobs.aggregate out=runs/pets tracking=online
    python -m jobs.aggregate out=runs/pets against=gradcam margin=0.01 cluster=label
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline import statistics, studies, tracking
from pipeline.config import entry_point
from pipeline.config.limits import at_least, directory, inside, one_of, setting
from pipeline.config.schema import TrackingConfig
from pipeline.report import page
from pipeline.rows import Storage
from pipeline.studies.curves.sums import QUANTITIES


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
    for one in found:
        statistics.save(run, one.name, one.summary)
        for name, rows in one.files.items():
            statistics.keep(run, name, rows)
        for name, table in one.tables.items():
            for extension, content in table.files().items():
                run.write(run.path(f"tables/{name}.{extension}"), content.encode())
    notes = [note for one in found if (note := statistics.failed(one.run))]
    sections = [one.section(settings["gallery"]) for one in found]
    place = page.write(run, sections, confidence=settings["confidence"], notes=notes)
    tracking.log_aggregation(settings, found)
    print("\n\n".join(one.table for one in found))
    for note in notes:
        print(note)
    print(f"report: {place}")


if __name__ == "__main__":
    main()
