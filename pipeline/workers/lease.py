"""What the driver and an actor tell each other."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.data import SampleRef
from pipeline.engine import Counters
from pipeline.rows import Part
from pipeline.work import Wanted
from pipeline.workers.schedule import Image


@dataclass(frozen=True, eq=False)
class Lease:
    """One image and the rows that are wanted of it. `known`: the parts that hold their orders
    already, for those where one does."""

    image: Image
    ref: SampleRef
    wanted: Wanted
    known: Mapping[tuple[str, Any], Part] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What has become of an actor's images since it reported last.

    `done`: images that are durable now; `failures`: reasons of their failed rows, and how many;
    `in_flight`, `oldest`: images under way, the one that takes longest and for how many seconds;
    `old`: those that take longer than half of the deadline;
    `counters`: what the engine has spent in all, in `seconds` since it was ready;
    `sealed`: the last part, by number; `refused`: why rows could not be committed.
    """

    done: list[Image]
    failures: Counter[str]
    in_flight: int
    oldest: tuple[Image, float] | None
    old: list[Image]
    counters: Counters
    seconds: float
    sealed: int
    refused: Exception | None = None
