"""What the driver and an actor tell each other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.data import SampleRef
from pipeline.engine import Counters
from pipeline.rows import Part
from pipeline.work import Wanted, Work
from pipeline.workers.schedule import Image


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of a sweep, or all there is: what people call it, its settings, and the work
    that these describe."""

    name: str = ""
    settings: Mapping[str, Any]
    work: Work


class Asked(NamedTuple):
    """The rows that a cell, by its number, wants of an image. `known`: the parts that hold their
    orders already, for those where one does."""

    cell: int
    wanted: Wanted
    known: Mapping[tuple[str, Any], Part] = {}


@dataclass(frozen=True, eq=False)
class Lease:
    """One image and what is asked of it, cell after cell: later ones may use orders that earlier
    ones find."""

    image: Image
    ref: SampleRef
    asked: Sequence[Asked]


@dataclass
class Tally:
    """What has become of a cell's rows: those that are durable, those of them that failed, by
    reason, and the forwards that they took."""

    rows: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    forwards: float = 0.0

    def add(self, other: "Tally") -> None:
        """Sum up."""
        self.rows += other.rows
        self.failures.update(other.failures)
        self.forwards += other.forwards


@dataclass(frozen=True, kw_only=True)
class Report:
    """What has become of an actor's images since it reported last.

    `done`: images that are durable now; `cells`: what has become of rows, by cell;
    `in_flight`, `oldest`: images under way, the one that takes longest and for how many seconds;
    `old`: those that take longer than half of the deadline;
    `counters`: what the engine has spent in all, in `seconds` since it was ready;
    `sealed`: the last claim, by number; `refused`: why rows could not be committed.
    """

    done: list[Image]
    cells: Mapping[int, Tally]
    in_flight: int
    oldest: tuple[Image, float] | None
    old: list[Image]
    counters: Counters
    seconds: float
    sealed: int
    refused: Exception | None = None
