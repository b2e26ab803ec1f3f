"""What a paper prints of a method, as columns beside ours; the setting `published` says it.

It is kept with the rows like all settings and is part of no address.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import UsageError
from pipeline.studies.curves.highest import BUDGETS

NUMBERS = {"insertion": 1, "deletion": 1, "highest": len(BUDGETS)}
"""What an entry may state beside its `source`: areas of both curves, highest confidence within each
budget; and as `cells` numbers by the heads of a `table`."""


def check(given: Mapping[str, Any]) -> None:
    """Raise UsageError for what the setting cannot hold, entries by method."""
    for method, entry in given.items():
        if not isinstance(entry, Mapping) or not set(entry) <= {*NUMBERS, "source", "cells"}:
            names = ", ".join((*NUMBERS, "source"))
            raise UsageError(f"published.{method}={entry}: give some of {names}")
        for name, count in NUMBERS.items():
            value = entry.get(name, [0] * count)
            numbers = value if isinstance(value, list) else [value]
            if len(numbers) != count or not all(map(_is_share, numbers)):
                said = "a number" if count == 1 else f"{count} numbers"
                raise UsageError(f"published.{method}.{name}={value}: give {said} from 0 to 1")
        for head, value in entry.get("cells", {}).items():
            if not isinstance(value, int | float):
                raise UsageError(f"published.{method}.cells.{head}={value!r}: give a number")


def published(provenance: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Entries of `published` by fingerprint; the last part that has one counts."""
    found = {}
    for made in provenance:
        given = made.get("config", {}).get("published") or {}
        for method, fingerprint in made.get("fingerprints", {}).items():
            if given.get(method):
                found[fingerprint] = given[method]
    return found


def beside(entry: Mapping[str, Any], objective: str) -> dict[str, Any]:
    """Columns of a summary, `published_` and the name of ours; those that the entry states."""
    columns = {"published_auc_probability": entry.get(objective)}
    if objective == "insertion" and entry.get("highest"):
        printed = zip(BUDGETS, entry["highest"], strict=True)
        columns |= {f"published_highest_{budget}": number for budget, number in printed}
    columns = {name: number for name, number in columns.items() if number is not None}
    if columns and entry.get("source"):
        columns["published_source"] = entry["source"]
    return columns


def _is_share(number: Any) -> bool:
    return isinstance(number, int | float) and 0 <= number <= 1
