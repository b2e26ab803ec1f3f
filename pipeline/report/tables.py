"""Tables in the forms that people paste: text, CSV, Markdown, LaTeX."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.report.text import ruled

LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {c: f"\\{c}" for c in "&%$#_{}"}
LATEX |= {"↓": r"$\downarrow$", "↑": r"$\uparrow$"}


@dataclass(frozen=True)
class Table:
    """Heads and cells as people read them; `records`, where there are some, are what machines do:
    a mapping a row, numbers as numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    records: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def text(self) -> str:
        """In columns of one width."""
        return "\n".join([*([self.title] if self.title else []), ruled(self.heads, self.rows)])

    def csv(self) -> str:
        """With a head line."""
        records = self.records or [dict(zip(self.heads, row, strict=True)) for row in self.rows]
        names = list(dict.fromkeys(name for record in records for name in record))
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, names or self.heads, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return buffer.getvalue()

    def markdown(self) -> str:
        """As GitHub shows it."""
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        body = "\n".join(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
        )
        return f"**{self.title}**\n\n{body}\n" if self.title else f"{body}\n"

    def latex(self) -> str:
        """A table of booktabs."""
        lines = [" & ".join(map(_escaped, line)) + r" \\" for line in (self.heads, *self.rows)]
        body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        columns = "l" + "c" * (len(self.heads) - 1)
        inner = [rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]
        caption = [rf"\caption{{{_escaped(self.title)}}}"] if self.title else []
        return "\n".join([r"\begin{table}", r"\centering", *caption, *inner, r"\end{table}", ""])

    def files(self) -> dict[str, str]:
        """By extension."""
        return {
            "txt": f"{self.text()}\n",
            "csv": self.csv(),
            "md": self.markdown(),
            "tex": self.latex(),
        }


def slug(title: str) -> str:
    """A title as a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_") or "table"


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
