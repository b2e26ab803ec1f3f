"""What the cells of a sweep have in common: samples, rows that several want, shared orders."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline import UsageError
from pipeline.data.index import ShardIndex
from pipeline.work import LOOKED_AT, Work
from pipeline.workers.lease import Cell

Chosen = tuple[ShardIndex, np.ndarray]
"""A shard's index, and the places in it that are asked for."""


class Selection(NamedTuple):
    """Samples, and the cells that want rows of them, by number."""

    cells: tuple[int, ...]
    chosen: Iterable[Chosen]


class Column(NamedTuple):
    """One of the rows of an image that a cell wants, and the content addresses of it and of its
    order, each with the facet."""

    cell: int
    method: str
    facet: Any
    row: tuple[str, Any]
    order: tuple[str, Any]


def columns_of(cells: Mapping[int, Work]) -> list[Column]:
    """Every row that the cells want of an image, whether others want it too or not."""
    return [
        Column(
            number,
            method,
            facet,
            (work.fingerprints[method], facet),
            (work.order_fingerprints.get(method, ""), facet),
        )
        for number, work in cells.items()
        for method, facet in work.wanted
    ]


def families(mine: Sequence[int], columns: Sequence[Column]) -> list[list[int]]:
    """Columns of cells that stand on the same orders, directly or through others."""
    family = {columns[j].cell: columns[j].cell for j in mine}

    def head(cell: int) -> int:
        while family[cell] != cell:
            cell = family[cell]
        return cell

    first: dict[tuple[str, Any], int] = {}
    for j in mine:
        column = columns[j]
        if column.order[0]:
            both = head(first.setdefault(column.order, column.cell)), head(column.cell)
            family[max(both)] = min(both)
    found: dict[int, list[int]] = {}
    for j in mine:
        found.setdefault(head(columns[j].cell), []).append(j)
    return list(found.values())


def selected(
    cells: Mapping[int, Cell],
) -> tuple[list[Selection], dict[int, UsageError]]:
    """What is asked for of each data set, indexed up to the first sample, whose label is looked
    for; cells that this is not good enough for."""
    groups: dict[str, list[int]] = {}
    for number, cell in cells.items():
        text = json.dumps(cell.settings["dataset"], sort_keys=True)
        groups.setdefault(text, []).append(number)
    found: list[Selection] = []
    refused: dict[int, UsageError] = {}
    for numbers in groups.values():
        works = {number: cells[number].work for number in numbers}
        try:
            chosen, bad = _chosen(cells[numbers[0]].settings, works)
        except UsageError as error:
            refused |= dict.fromkeys(numbers, error)
            continue
        refused |= bad
        if good := tuple(number for number in numbers if number not in bad):
            found.append(Selection(good, chosen))
    return found, refused


def _chosen(
    settings: Mapping[str, Any], works: Mapping[int, Work]
) -> tuple[Iterable[Chosen], dict[int, UsageError]]:
    """Samples of one data set, and works that want labels which are not there. Raises UsageError
    where there is no sample."""
    refused: dict[int, UsageError] = {}
    seen, rest = [], next(iter(works.values())).data.indexed()
    for index, places in rest:
        seen.append((index, places))
        if len(places):
            refs = list(index.refs(places[:LOOKED_AT]))
            for number, work in works.items():
                try:
                    work.check_labels(refs)
                except UsageError as error:
                    refused[number] = error
            return itertools.chain(seen, rest), refused
    keys, shards = settings["dataset"]["keys"], settings["dataset"]["shards"]
    which = f"none of the samples that dataset.keys={keys} lists is" if keys else "no samples"
    raise UsageError(f"dataset.shards: {which} in {shards}")
