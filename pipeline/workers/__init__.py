"""The distributed run, and the only place that imports Ray.

The driver indexes shards and finds which rows are missing (`backlog`); a pure policy (`schedule`)
decides who computes which images and what becomes of them when workers fall. Actors decode ahead
of their engine, make rows durable in groups and seal their own parts (`line`); results never travel
through Ray. The driver holds counts, and the run directory's lock. A sweep is the same with several
cells (`workshop`): they share one Ray, a model's actors, orders and rows.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.workers.outcome import Outcome, Rows
from pipeline.workers.stop import Stop
from pipeline.workers.workshop import Accepted, Outcomes, Settings, Workshop

__all__ = ["Outcome", "Outcomes", "Rows", "Stop", "Workshop", "run", "stop_of"]

ALONE = ""
"""The name of a cell that has no others beside it."""


def run(
    study: str,
    settings: Mapping[str, Any],
    accepted: Accepted = lambda known, again: None,
) -> Outcome:
    """Bring every requested row of a study into being: compute those that `out` lacks.

    `accepted` is told the settings once they are known to work. Raises UsageError for settings
    that cannot work, before any worker starts, and RunError where it ends early. That too many
    rows failed is left to whoever reads the outcome.
    """
    with stop_of(settings) as stop:
        shop = Workshop(study, stop, accepted=accepted, fail_fast=False, keep=False)
        with shop:
            outcome = shop.complete({ALONE: settings})[ALONE]
            if outcome.error is not None:
                raise outcome.error
    return outcome


def stop_of(settings: Settings) -> Stop:
    """What may end a run early, by its settings."""
    cluster = settings["cluster"]
    return Stop(cluster["time_limit_s"], grace_s=cluster["grace_s"])
