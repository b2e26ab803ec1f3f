"""Turn rows into summary.parquet, summary.csv, a W&B run and report/index.html."""

from typing import Any

from pipeline import aggregate, report, tracking
from pipeline.config import entry_point
from pipeline.results import Run


@entry_point("aggregate")
def main(settings: dict[str, Any]) -> None:
    """Files first, W&B last; prints the table."""
    run = Run(settings["out"])
    found = aggregate.aggregate(run, settings)
    aggregate.write(run, found)
    place = report.write(run, found, gallery=settings["gallery"])
    tracking.log_aggregation(settings, found)
    print(report.table(found))
    print(f"report: {place}")


if __name__ == "__main__":
    main()
