"""What an actor is asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.data import SampleRef
from pipeline.work import Wanted


@dataclass(frozen=True, eq=False)
class Lease:
    """One image and the rows that are wanted of it. `known`: the parts that hold their orders
    already, for those where one does."""

    ref: SampleRef
    wanted: Wanted
    known: Mapping[tuple[str, Any], str] = field(default_factory=dict)
