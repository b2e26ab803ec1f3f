"""Turn the rows of a run into summary.parquet, summary.csv, a W&B run and report/index.html.

python -m jobs.aggregate out=runs/pets tracking=online
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline import statistics, studies, tracking
from pipeline.config import entry_point
from pipeline.config.schema import TrackingConfig
from pipeline.report import page
from pipeline.rows import Storage


@dataclass
class AggregateConfig:
    """Settings: see conf/aggregate.yaml."""

    out: str = MISSING
    subset: str = "all"
    grid: int = 101
    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0
    gallery: int = 24
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    plugins: list[str] = field(default_factory=list)


@entry_point("aggregate", AggregateConfig)
def main(settings: dict[str, Any]) -> None:
    """Whatever a run is about: files first, W&B last; prints the tables."""
    statistics.check(settings)
    run = Storage(settings["out"])
    found = studies.findings(settings)
    for one in found:
        statistics.save(run, one.name, one.summary)
    sections = [one.section(settings["gallery"]) for one in found]
    place = page.write(run, sections, confidence=settings["confidence"])
    tracking.log_aggregation(settings, found)
    print("\n\n".join(one.table for one in found))
    print(f"report: {place}")


if __name__ == "__main__":
    main()
