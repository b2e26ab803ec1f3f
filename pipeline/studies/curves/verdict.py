"""The report's first sentence: which method has the best area, by how much, how sure, on how many
images. It says of the best what comparisons.parquet and standings.parquet say of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.studies.curves.cells import ALIKE
from pipeline.studies.curves.comparisons import Comparisons
from pipeline.studies.names import HEADS

Row = Mapping[str, Any]
MEASURE = "auc_probability"


@dataclass(frozen=True, kw_only=True)
class Rival:
    """Another method: how far the best is ahead of it, on average, and on how many of n images."""

    title: str
    difference: float
    low: float
    high: float
    behind: int
    n: int

    @property
    def tied(self) -> bool:
        """Whether it may be as good."""
        return self.low <= 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The best of a cell for one objective; `rivals`, nearest first; `sure`: probability that it
    is the best; `marks`: "best" or "tie" by fingerprint."""

    where: str
    objective: str
    title: str
    area: float
    n: int
    sure: float
    rivals: Sequence[Rival]
    marks: Mapping[str, str]

    @property
    def tied(self) -> Sequence[Rival]:
        """Those that cannot be told apart from it."""
        return [rival for rival in self.rivals if rival.tied]


def verdicts(compared: Comparisons) -> list[Verdict]:
    """Of each cell with several methods, and each objective, insertion first."""
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for row in compared.comparisons:
        if row["chosen"] and row["measure"] == MEASURE:
            cells.setdefault(tuple(row[c] for c in ALIKE), []).append(row)
    varying = [
        i for i, c in enumerate(ALIKE) if c in HEADS and len({cell[i] for cell in cells}) > 1
    ]
    stands = {(*(row[c] for c in ALIKE), row["fingerprint"]): row for row in compared.standings}
    found = []
    for cell, rows in cells.items():
        where = ", ".join(f"{HEADS[ALIKE[i]]} {cell[i]}" for i in varying)
        found.append(_verdict(where, stands[*cell, rows[0]["against_fingerprint"]], rows))
    return sorted(found, key=lambda verdict: verdict.objective != "insertion")


def _verdict(where: str, best: Row, rows: Sequence[Row]) -> Verdict:
    rivals = sorted(((_rival(row), row) for row in rows), key=lambda pair: pair[0].difference)
    ties = {row["fingerprint"]: "tie" for rival, row in rivals if rival.tied}
    return Verdict(
        where=where,
        objective=best["objective"],
        title=best["method"],
        area=best["mean"],
        n=best["n"],
        sure=best["probability_best"],
        rivals=[rival for rival, _ in rivals],
        marks={best["fingerprint"]: "best"} | ties,
    )


def _rival(row: Row) -> Rival:
    ends = (row["difference_low"], row["difference_high"])
    low, high = (-ends[1], -ends[0]) if row["more_is_better"] else ends
    difference = -row["difference"] if row["more_is_better"] else row["difference"]
    return Rival(
        title=row["method"],
        difference=difference,
        low=low,
        high=high,
        behind=row["worse"],
        n=row["n"],
    )
