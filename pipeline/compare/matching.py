"""Which rows of two runs belong together: one image, one game, one method and objective.

Nothing is collapsed: where one side has several rows for a place, it is refused with what tells
them apart. What only one side has is counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import UsageError
from pipeline.components import suggestion
from pipeline.rows import RunDir

GAME = (
    *("dataset", "model", "weights", "players", "masking", "curve_masking", "judge"),
    *("order_model", "order_weights", "n_players"),
)
"""Columns in which rows must agree to be of one game; precision, actors and versions may differ."""
ACROSS = {
    "model": ("model", "weights"),
    "masking": ("masking",),
    "curve_masking": ("curve_masking",),
    "order_model": ("order_model", "order_weights"),
    "method": ("method",),
}
"""What two runs may be told to differ in, and the columns that say it."""
IMAGE = ("shard", "key")
ROW = ("method", "objective")
COLUMNS = (
    *(*IMAGE, *GAME, *ROW, "fingerprint", "content", "label", "prediction", "target", "order"),
    *("fraction", "auc_probability", "auc_top1", "flip", "measure", "value", "status"),
)
Place = tuple[Any, ...]
"""What a row is about, as far as both sides must agree."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A run's rows that are ok, and where each place's row is among them; how many failed."""

    run: RunDir
    rows: pa.Table
    places: Mapping[Place, int]
    failed: int


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Rows that belong together, as their places in the tables of both sides, sorted by game,
    method, objective and image.

    `alone`: rows by what they are of which the other side holds none, for each side; `changed`:
    pairs left out since the bytes of their image or label differ.
    """

    sides: tuple[Side, Side]
    here_P: np.ndarray
    there_P: np.ndarray
    alone: tuple[Counter[str], Counter[str]]
    changed: int

    def notes(self, names: tuple[str, str]) -> list[str]:
        """A line on whatever was not compared; `names`: what the sides are called."""
        said = []
        for side, name, alone in zip(self.sides, names, self.alone, strict=True):
            if alone:
                of = ", ".join(f"{what} ({rows})" for what, rows in sorted(alone.items()))
                said.append(
                    f"{name}: {alone.total()} more rows, which the other run does not hold: {of}"
                )
            if side.failed:
                said.append(f"{name}: {side.failed} rows failed and are not compared")
        if self.changed:
            said.append(
                f"{self.changed} pairs of rows are of images whose bytes or label have changed; "
                "they are not compared"
            )
        return said


def matched(
    here: RunDir,
    there: RunDir,
    *,
    across: Sequence[str] = (),
    where: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
    options: tuple[str, str] = ("where", "against_where"),
) -> Pairs:
    """Match rows of the same game on the same image; `across`: keys of ACROSS that may differ.

    `where`: for each side, columns and the value, or list of values, of rows that count; `options`:
    the settings that say so. Raises UsageError where a side holds a place twice or nothing matches.
    """
    if unknown := [name for name in across if name not in ACROSS]:
        raise UsageError(f"across={unknown}: {suggestion(unknown[0], list(ACROSS))}")
    free = {column for name in across for column in ACROSS[name]}
    common = [column for column in (*IMAGE, *GAME, *ROW) if column not in free]
    left, right = (
        _side(run, which, common, option)
        for run, which, option in zip((here, there), where, options, strict=True)
    )
    both = left.places.keys() & right.places.keys()
    if not both:
        raise UsageError(
            f"{here.out} and {there.out} have no row in common{_why(left, right, common)}"
        )
    order = sorted(both, key=lambda place: (*map(str, place[len(IMAGE) :]), *place[: len(IMAGE)]))
    here_P = np.array([left.places[place] for place in order])
    there_P = np.array([right.places[place] for place in order])
    same_P = _same_bytes(left.rows["content"], right.rows["content"], here_P, there_P)
    if not same_P.any():
        raise UsageError(
            f"{here.out} and {there.out} have the same keys, but the bytes of all images differ"
        )
    return Pairs(
        sides=(left, right),
        here_P=here_P[same_P],
        there_P=there_P[same_P],
        alone=(_alone(left, right, both, common), _alone(right, left, both, common)),
        changed=int((~same_P).sum()),
    )


def chosen(rows: pa.Table, where: Mapping[str, Any], said: str) -> pa.Table:
    """Rows whose columns have these values. Raises UsageError where there are none."""
    for column, value in where.items():
        if column not in rows.column_names:
            known = ", ".join(c for c in (*GAME, *ROW, "fingerprint") if c in rows.column_names)
            raise UsageError(f"{said}: no column {column}; use one of {known}")
        values = value if isinstance(value, list | tuple) else [value]
        try:
            wanted = pa.array(values, rows.schema.field(column).type)
        except (pa.ArrowException, TypeError, ValueError):
            raise UsageError(f"{said}: {column}={value} is no value of that column") from None
        left = rows.filter(pc.is_in(rows[column], value_set=wanted))
        if not len(left):
            there = sorted({str(v) for v in pc.unique(rows[column]).to_pylist()})
            raise UsageError(f"{said}: no row has {column}={value}; there is {few(there)}")
        rows = left
    return rows


def few(values: Sequence[str]) -> str:
    """The first three."""
    return ", ".join(values[:3]) + (", ..." if len(values) > 3 else "")


def _side(run: RunDir, where: Mapping[str, Any], common: Sequence[str], option: str) -> Side:
    rows = chosen(run.read(list(COLUMNS)), where, f"{option} of {run.out}")
    good = rows.filter(pc.equal(rows["status"], "ok"))
    prints = good["fingerprint"].to_pylist()
    places: dict[Place, int] = {}
    for i, place in enumerate(zip(*(good[c].to_pylist() for c in common), strict=True)):
        twin = places.setdefault(place, i)
        if prints[twin] != prints[i]:
            raise UsageError(_two(run, good, twin, i, option))
    return Side(run=run, rows=good, places=places, failed=len(rows) - len(good))


def _two(run: RunDir, rows: pa.Table, one: int, other: int, option: str) -> str:
    """What tells two rows of one place apart, and how to choose."""
    a, b = rows.select([*GAME, *ROW, "fingerprint"]).take(pa.array([one, other])).to_pylist()
    column = next(c for c in (*ROW, *GAME, "fingerprint") if a[c] != b[c])
    values = sorted(str(row[column]) for row in (a, b))
    said = " and ".join(value[:8] if column == "fingerprint" else value for value in values)
    return (
        f"{run.out}: {a['method']} is there with two settings for the same images: {column} is "
        f"{said}; choose one with +{option}.{column}={values[0]}"
    )


def _same_bytes(
    here: pa.ChunkedArray, there: pa.ChunkedArray, here_P: np.ndarray, there_P: np.ndarray
) -> np.ndarray:
    """Whether both rows of a pair stand on the same bytes, as far as both say."""
    differ = pc.not_equal(here.take(pa.array(here_P)), there.take(pa.array(there_P)))
    return ~np.asarray(pc.fill_null(differ, False)).astype(bool)


def _alone(mine: Side, other: Side, both: set[Place], common: Sequence[str]) -> Counter[str]:
    """Rows that only `mine` has, by method and whatever the other side never holds."""
    games = [i for i, column in enumerate(common) if column not in (*IMAGE, *ROW)]
    known = {i: {place[i] for place in other.places} for i in games}
    methods = mine.rows["method"].to_pylist()
    found: Counter[str] = Counter()
    for place in mine.places.keys() - both:
        apart = [f"{common[i]} {place[i]}" for i in games if place[i] not in known[i]]
        method = methods[mine.places[place]]
        found[f"{method} of {', '.join(apart)}" if apart else method] += 1
    return found


def _why(left: Side, right: Side, common: Sequence[str]) -> str:
    """The columns in which two runs never agree, and how to compare them all the same."""
    said, names = [], []
    for i, column in enumerate(common):
        here, there = ({place[i] for place in side.places} for side in (left, right))
        if here and there and not here & there:
            said.append(f"{column} is {_listed(here)} and {_listed(there)}")
            names += [name for name, columns in ACROSS.items() if column in columns]
    if not said:
        return ": no image has the same game in both"
    fix = f" (across=[{','.join(dict.fromkeys(names))}] compares these)" if names else ""
    return f": {'; '.join(said)}{fix}"


def _listed(values: set[Any]) -> str:
    return few(sorted(map(str, values)))
