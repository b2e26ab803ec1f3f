"""Why rows failed, in a few words: reasons that differ in numbers and names only are one."""

import re
from collections import Counter
from collections.abc import Mapping

SHOWN = 3
"""Reasons that are named, the most frequent ones."""
LONGEST = 120


def reasons(failures: Mapping[str, int]) -> list[tuple[str, int]]:
    """Rows by what is common to their reasons; most first."""
    found: Counter[str] = Counter()
    for reason, rows in failures.items():
        found[_common(reason)] += rows
    return found.most_common()


def grouped(failures: Mapping[str, int]) -> str:
    """The most frequent reasons with their counts, in one line."""
    found = reasons(failures)
    shown = [f"{reason} ({rows})" for reason, rows in found[:SHOWN]]
    rest = sum(rows for _, rows in found[SHOWN:])
    return "; ".join([*shown, f"others ({rest})"] if rest else shown)


def told(failures: Mapping[str, int], rows: int) -> str:
    """A line of it: how many of all rows, and why; empty where none failed."""
    failed = sum(failures.values())
    return f"{failed} of {rows} rows failed: {grouped(failures)}" if failed else ""


def _common(reason: str) -> str:
    """Without what is one image's own: quoted text, paths, numbers."""
    plain = re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*", "...", " ".join(reason.split()))
    plain = re.sub(r"\b0x[0-9a-f]+\b|\b\d+(\.\d+)?\b", "#", plain)
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 3]}..."
