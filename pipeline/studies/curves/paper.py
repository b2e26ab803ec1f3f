"""Tables as a paper prints them: the setting `table` says what its rows and columns are called.

It is kept with the rows like all settings, as is `published`, and is part of no address. Runs into
one directory whose tables have one title share it: each data set has its own columns.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from pipeline import UsageError
from pipeline.game import OBJECTIVES
from pipeline.report.tables import Table
from pipeline.statistics import Band

KEYS = {"title", "rows", "columns", "source"}
"""Of `table`. `rows` are a list of {method, name}, where of several methods each serves its own
objectives; `columns` of {head, objective, read}: `read` is a column of the summary, or a curve at a
fraction of the pixels, such as top1@0.04."""

Cells = dict[tuple[str, str], dict[str, float]]
"""Numbers by (row, head): value, low, high, published."""


def check(given: Mapping[str, Any] | None, methods: Sequence[str]) -> None:
    """Raise UsageError for what the setting cannot hold."""
    if not given:
        return
    if not isinstance(given, Mapping) or not {"title", "rows", "columns"} <= set(given) <= KEYS:
        raise UsageError(f"table={given}: give title, rows and columns, and a source where known")
    for row in given["rows"]:
        if not isinstance(row, Mapping) or set(row) != {"method", "name"}:
            raise UsageError(f"table.rows: {row} is no {{method, name}}")
        for method in _methods(row):
            if method not in methods:
                raise UsageError(f"table.rows: {method} is none of the methods")
    for column in given["columns"]:
        if not isinstance(column, Mapping) or set(column) != {"head", "objective", "read"}:
            raise UsageError(f"table.columns: {column} is no {{head, objective, read}}")
        if column["objective"] not in OBJECTIVES:
            raise UsageError(
                f"table.columns: {column['head']}: objective is {' or '.join(OBJECTIVES)}"
            )
        _, at, fraction = str(column["read"]).partition("@")
        if at and not _is_fraction(fraction):
            raise UsageError(f"table.columns: {column['read']}: no fraction after the @")


def tables(
    summaries: Mapping[tuple[str, str], Mapping[str, Any]],
    curves: Mapping[tuple[str, str], tuple[np.ndarray, Mapping[str, Band]]],
    provenance: Sequence[Mapping[str, Any]],
) -> list[Table]:
    """Every table that parts ask for, by title. `summaries` and `curves` (fractions and bands) are
    by fingerprint and objective."""
    found: dict[str, tuple[dict[str, str], dict[str, None], Cells, list[str]]] = {}
    asked = [(made, made.get("config", {})) for made in provenance]
    asked = [(made, config) for made, config in asked if config.get("table")]
    names = {str(config["dataset"].get("name")) for _, config in asked}
    for made, config in asked:
        spec, printed = config["table"], config.get("published") or {}
        rows, heads, cells, sources = found.setdefault(spec["title"], ({}, {}, {}, []))
        sources.append(spec.get("source", ""))
        for row, column in product(spec["rows"], spec["columns"]):
            plain, place = column["head"], "+".join(_methods(row))
            head = f"{config['dataset']['name']} {plain}" if len(names) > 1 else plain
            rows[place], heads[head] = row["name"], None
            numbers: dict[str, float] = {}
            for method in _methods(row):
                at = made["fingerprints"].get(method), column["objective"]
                numbers |= _read(column["read"], summaries.get(at), curves.get(at))
                published = (printed.get(method) or {}).get("cells", {}).get(plain)
                numbers |= {} if published is None else {"published": published}
            if numbers:
                cells[place, head] = numbers
    return [_table(title, *parts) for title, parts in found.items()]


def _read(read: str, summary: Mapping[str, Any] | None, curve: Any) -> dict[str, float]:
    """Value and bounds of one cell, nothing where there is none."""
    name, at, fraction = read.partition("@")
    if summary is None or not summary["n"]:
        return {}
    if at and curve is not None and name in curve[1]:
        fraction_G, band = curve[0], curve[1][name]
        sides = {"value": band.mean_G, "low": band.low_G, "high": band.high_G}
        return {k: float(np.interp(float(fraction), fraction_G, y_G)) for k, y_G in sides.items()}
    if summary.get(name) is None:
        return {}
    sides = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
    return {k: float(summary[column]) for k, column in sides.items() if column in summary}


def _table(
    title: str, rows: Mapping[str, str], heads: Mapping[str, None], cells: Cells, sources: Sequence
) -> Table:
    records = [
        {"method": said}
        | {
            f"{head}{'' if side == 'value' else f' {side}'}": number
            for head in heads
            for side, number in cells.get((method, head), {}).items()
        }
        for method, said in rows.items()
    ]
    source = next((source for source in sources if source), "")
    return Table(
        heads=["method", *heads],
        rows=[
            [said, *(_cell(cells.get((method, head), {})) for head in heads)]
            for method, said in rows.items()
        ],
        title=title + (f"; in parentheses {source}" if source else ""),
        records=records,
    )


def _cell(numbers: Mapping[str, float]) -> str:
    """Ours with its interval, what the paper prints in parentheses."""
    said = f"{numbers['value']:.4f}" if "value" in numbers else "-"
    if "low" in numbers:
        said += f" [{numbers['low']:.3f}, {numbers['high']:.3f}]"
    return said + (f" ({numbers['published']:.4f})" if "published" in numbers else "")


def _methods(row: Mapping[str, Any]) -> list[str]:
    return [row["method"]] if isinstance(row["method"], str) else list(row["method"])


def _is_fraction(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False
