"""A CSV file with a line an image; what it says beyond the known columns are attributes."""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pipeline import UsageError
from pipeline.data.packers import Box, Entry, key_of
from pipeline.data.packers.files import folder
from pipeline.data.packers.lines import lines, malformed, number, whole

_SIDES = ("left", "top", "right", "bottom")
_KNOWN = ("path", "label", "class_name", "split", "identity", *_SIDES)


class _Line(NamedTuple):
    at: int
    text: str
    fields: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class CsvFile:
    """`file`, below `root`, with a header: path, and any of label, class_name, split, identity,
    left, top, right, bottom (a box, in pixels); other columns are attributes.

    Paths are below `root`. Labels are class indices where all of them are whole numbers, else
    names of classes, whose indices are their places among all, sorted.
    """

    root: str
    file: str = "images.csv"

    def entries(self) -> Iterator[Entry]:
        """In the order of lines. Raises UsageError for a line that is wrong."""
        root = folder(self.root)
        index = {name: label for label, name in enumerate(self._sorted or ())}
        for line in self._lines:
            fields = line.fields
            name = fields["path"].removeprefix("./")
            if not name or Path(name).is_absolute() or ".." in Path(name).parts:
                raise self._refused(line, f"a path below {root}")
            said = fields.get("label", "")
            label = index[said] if index and said else whole(said) if said else None
            yield Entry.of_file(
                root / name,
                key_of(name),
                label=label,
                split=fields.get("split", ""),
                boxes=self._boxes(line),
                identity=fields.get("identity") or None,
                attributes={k: v for k, v in fields.items() if k not in _KNOWN and v},
                origin=f"{self._path}:{line.at}",
            )

    def class_names(self) -> list[str]:
        """Of labels that are names, else of class_name, else none."""
        if self._sorted:
            return self._sorted
        named: dict[int, str] = {}
        for line in self._lines:
            said, name = line.fields.get("label", ""), line.fields.get("class_name", "")
            if said and name and named.setdefault(whole(said), name) != name:
                raise self._refused(line, f"{named[whole(said)]!r} as the name of class {said}")
        return [named.get(label, str(label)) for label in range(max(named, default=-1) + 1)]

    @cached_property
    def _path(self) -> Path:
        return folder(self.root) / self.file

    @cached_property
    def _lines(self) -> list[_Line]:
        numbered = list(lines(self._path))
        header = next(csv.reader([numbered[0][1]])) if numbered else []
        names = [name.strip() for name in header]
        if "path" not in names or len(set(names)) < len(names):
            raise UsageError(f"{self._path}:1: expected names of columns, path among them")
        found = []
        for at, text in numbered[1:]:
            fields = [field.strip() for field in next(csv.reader([text]))]
            if len(fields) != len(names):
                raise malformed(self._path, at, text, f"{len(names)} fields: {', '.join(names)}")
            found.append(_Line(at, text, dict(zip(names, fields, strict=True))))
        return found

    @cached_property
    def _sorted(self) -> list[str] | None:
        """Names of classes, None where labels are indices."""
        labels = {line.fields.get("label", "") for line in self._lines} - {""}
        return (
            None if all(re.fullmatch(r"[0-9]{1,9}", label) for label in labels) else sorted(labels)
        )

    def _boxes(self, line: _Line) -> tuple[Box, ...]:
        sides = [line.fields.get(side, "") for side in _SIDES]
        if not any(sides):
            return ()
        try:
            left, top, right, bottom = map(number, sides)
        except ValueError:
            raise self._refused(line, "four numbers in left, top, right and bottom") from None
        return ((left, top, right, bottom),)

    def _refused(self, line: _Line, expected: str) -> UsageError:
        return malformed(self._path, line.at, line.text, expected)
