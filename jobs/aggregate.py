"""Turn rows into summaries, a W&B run and report/index.html."""

from typing import Any

from pipeline import aggregate, report, tracking
from pipeline.config import entry_point
from pipeline.results import Run
from pipeline.undesirable import aggregate as masks
from pipeline.undesirable.evaluate import MASKS


@entry_point("aggregate")
def main(settings: dict[str, Any]) -> None:
    """Curves and masks, whichever there are: files first, W&B last; prints the tables."""
    aggregate.check(settings)
    run, masked = Run(settings["out"]), Run(settings["out"], MASKS)
    curves_found = masks_found = None
    if run.sealed() or not masked.sealed():
        curves_found = aggregate.aggregate(run, settings)
        aggregate.write(run, curves_found)
    if masked.sealed():
        masks_found = masks.aggregate(masked, settings)
        masks.write(masked, masks_found)
    place = report.write(run, curves_found, masks_found, gallery=settings["gallery"])
    tracking.log_aggregation(settings, curves_found, masks_found)
    print(report.tables(curves_found, masks_found))
    print(f"report: {place}")


if __name__ == "__main__":
    main()
