"""What a run did, counted: rows that were asked for, that are there, that lie there twice."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline import RunError, UsageError
from pipeline.engine import Counters
from pipeline.failures import told
from pipeline.rows import Committed, RunDir
from pipeline.workers.backlog import Backlog, Looked


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows that were asked for, those of them that parts hold, and how many lie there once more
    than they should."""

    expected: int = 0
    there: int = 0
    duplicates: int = 0

    def __str__(self) -> str:
        return f"{self.expected} expected, {self.there} rows, {self.duplicates} duplicates"

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(
            expected=self.expected + other.expected,
            there=self.there + other.there,
            duplicates=self.duplicates + other.duplicates,
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run, or a cell of it, did: images in the data set, images computed now, their rows,
    those that failed by reason, what was spent in how many seconds, lines on how it went, the rows
    that are there now; and what ended it early, if anything did."""

    images: int = 0
    computed: int = 0
    rows: int = 0
    failures: Mapping[str, int] = field(default_factory=Counter)
    counters: Counters = field(default_factory=Counters)
    seconds: float = 0.0
    remarks: Sequence[str] = ()
    counted: Rows = field(default_factory=Rows)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    max_failed: float = 1.0
    error: UsageError | RunError | None = None

    @property
    def trouble(self) -> UsageError | RunError | None:
        """Why it is no success: what ended it early, or that more than the share `max_failed` of
        its rows failed."""
        if self.error is None and self.failed_rows > self.max_failed * self.rows:
            return RunError(
                f"{told(self.failures, self.rows)}; that is more than "
                f"max_failed={self.max_failed:g}: mend what can be mended and run the same command "
                "with retry=failed"
            )
        return self.error

    @property
    def failed_rows(self) -> int:
        """Of all reasons."""
        return sum(self.failures.values())

    def text(self) -> str:
        """What there is to say of it."""
        spent = self.counters
        first = (
            f"{self.computed} images in {self.seconds:.0f} s: {spent.forwards:,} forwards, "
            f"{spent.forwards / self.seconds:.0f} forwards/s, "
            f"{spent.flops / self.seconds / 1e9:,.0f} GFLOP/s, {self.failed_rows} rows failed"
        )
        return "\n".join([first, *self.remarks])


def counted(run: RunDir, backlog: Backlog, before: set[str]) -> tuple[Rows, dict[int, Rows]]:
    """Distinct rows over all cells, and those of each cell, by number. `before`: parts that were
    there when shards were looked at; only others are read."""
    wanted = [column.row for column in backlog.columns]
    fresh = [name for name in run.sealed() if name not in before]
    added = Committed.read(run, wanted, names=fresh)
    total, cells = Rows(), dict.fromkeys(backlog.cells, Rows())
    for looked, rows_nF in _now(backlog.looked, added):
        total += _rows(looked.first_nF, rows_nF)
        chosen_nF = np.zeros_like(looked.first_nF)
        chosen_nF[looked.places] = True
        of_F = np.array([backlog.columns[j].cell for j in looked.columns])
        for cell in np.unique(of_F).tolist():
            mine = of_F == cell
            cells[cell] += _rows(chosen_nF[:, mine], rows_nF[:, mine])
    return total, cells


def lost(rows: Rows) -> RunError:
    """What is said where some are missing that nothing says why."""
    lacking = rows.expected - rows.there
    return RunError(f"{lacking} of {rows.expected} rows are not there; run the same command again")


def _now(looked: Sequence[Looked], added: Committed) -> Iterator[tuple[Looked, np.ndarray]]:
    for one in looked:
        more = added.of(one.index.shard, one.index.keys, one.columns)
        yield one, one.rows_nF.astype(np.int64) + more.rows_nW


def _rows(chosen_nF: np.ndarray, rows_nF: np.ndarray) -> Rows:
    found = rows_nF[chosen_nF]
    return Rows(
        expected=len(found),
        there=int((found > 0).sum()),
        duplicates=int(np.maximum(found - 1, 0).sum()),
    )
