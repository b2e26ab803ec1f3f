"""Evaluate attribution methods over a data set: rows into <out>/results, only those missing."""

from typing import Any

from pipeline import tracking, workers
from pipeline.config import entry_point


def evaluate(settings: dict[str, Any]) -> None:
    """Compute what is missing and say what was done."""
    report = workers.run(settings)
    if report.computed:
        print(report.text())
        tracking.log_evaluation(settings, report)
    print(f"next: python -m jobs.aggregate out={settings['out']}")


main = entry_point("evaluate")(evaluate)

if __name__ == "__main__":
    main()
