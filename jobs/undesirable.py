"""Optimise masks of undesirable pixels (F-TC, F-NTC): rows into <out>/masks, only those missing."""

from typing import Any

from pipeline import tracking, workers
from pipeline.config import entry_point


@entry_point("undesirable")
def main(settings: dict[str, Any]) -> None:
    """Compute what is missing and say what was done."""
    report = workers.run(settings)
    if report.computed:
        print(report.text())
        tracking.log_evaluation(settings, report)
    print(f"next: python -m jobs.aggregate out={settings['out']}")


if __name__ == "__main__":
    main()
