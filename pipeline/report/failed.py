"""What went wrong, for the page: rows that failed, by what is common to their reasons."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from pipeline.failures import reasons
from pipeline.report.images import PLACE
from pipeline.rows import RunDir

SHOWN = 50
"""Rows of one reason that the page lists."""
COLUMNS = [*PLACE, "method", "status", "error"]


@dataclass(frozen=True)
class Reason:
    """What some rows have in common, how many these are, and the first of them: sample, method,
    what was said."""

    said: str
    rows: int
    first: Sequence[tuple[str, str, str]]


def failures(run: RunDir) -> Iterator[Reason]:
    """Most frequent first."""
    rows = run.read(COLUMNS)
    lost = rows.filter(pc.not_equal(rows["status"], "ok")).sort_by(
        [(name, "ascending") for name in (*PLACE, "method")]
    )
    by_reason: dict[str, list[tuple[str, str, str]]] = {}
    for row in lost.to_pylist():
        ((common, _),) = reasons({str(row["error"]): 1})
        place = "/".join(str(row[column]) for column in PLACE)
        by_reason.setdefault(common, []).append((place, str(row["method"]), str(row["error"])))
    for common, mine in sorted(by_reason.items(), key=lambda pair: -len(pair[1])):
        yield Reason(common, len(mine), mine[:SHOWN])
