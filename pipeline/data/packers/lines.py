"""Annotation files, line by line: whatever is malformed is told with file, line and remedy."""

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import UsageError
from pipeline.data.packers import Box


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbers, from 1, and texts of the lines that are not blank. Raises UsageError."""
    try:
        with open(path, encoding="utf-8-sig", newline=None) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\n")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; docs/datasets.md shows the layout") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: no UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def malformed(path: Path, number: int, line: str, expected: str) -> UsageError:
    """What to raise for a line."""
    return UsageError(f"{path}:{number}: {line.strip()[:80]!r}: expected {expected}")


@dataclass(frozen=True)
class Row:
    """A line of annotations: its number and its converted fields."""

    number: int
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Keyed:
    """Annotations by the first field of their lines."""

    path: Path
    rows: dict[str, Row]

    def of(self, key: str, asked: str) -> tuple[Any, ...]:
        """The fields after the first. Raises UsageError where no line has the key; `asked`: who
        names it."""
        row = self.rows.get(key)
        if row is None:
            raise UsageError(f"{self.path}: no line for {key!r}, which {asked} names")
        return row.values

    def refused(self, key: str, expected: str) -> UsageError:
        """What to raise where a key's fields fit nothing."""
        row = self.rows[key]
        return malformed(self.path, row.number, " ".join(map(str, (key, *row.values))), expected)


def keyed(
    path: Path,
    kinds: Sequence[Callable[[str], Any]],
    expected: str,
    *,
    skip: int = 0,
    comma: bool = False,
) -> Keyed:
    """A file of lines `<key> <field> ...`: a field of each of `kinds`, which raise ValueError.

    `skip`: lines of a header; `comma`: fields are separated by commas instead of blanks. Raises
    UsageError for a line of other fields, and for a key that two lines have.
    """
    found: dict[str, Row] = {}
    for number, line in lines(path):
        if number <= skip:
            continue
        fields = _fields(line) if comma else line.split()
        try:
            values = tuple(kind(f) for kind, f in zip(kinds, fields[1:], strict=True))
        except ValueError:
            raise malformed(path, number, line, expected) from None
        if fields[0] in found:
            first = found[fields[0]].number
            raise malformed(path, number, line, f"{fields[0]!r} once; it is on line {first} too")
        found[fields[0]] = Row(number, values)
    return Keyed(path, found)


def _fields(line: str) -> list[str]:
    return [text.strip() for text in next(csv.reader([line], skipinitialspace=True))]


def whole(text: str) -> int:
    """A whole number in plain decimal digits. Raises ValueError."""
    if not re.fullmatch(r"\s*-?[0-9]{1,18}\s*", text):
        raise ValueError(text)
    return int(text)


def number(text: str) -> float:
    """A finite number. Raises ValueError."""
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value


def choice(*words: str) -> Callable[[str], str]:
    """One of these words. Raises ValueError for others."""

    def chosen(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return chosen


def box(left: float, top: float, width: float, height: float) -> Box:
    """Corners of a box that is given by one corner and its size."""
    return (left, top, left + width, top + height)
