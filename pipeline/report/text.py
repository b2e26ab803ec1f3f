"""Numbers, tables and templates as text."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup


def rendered(template: Path, **values: Any) -> Markup:
    """A template filled in; it may import the macros that lie beside this file."""
    loader = jinja2.FileSystemLoader([template.parent, Path(__file__).parent])
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return Markup(environment.get_template(template.name).render(**values))


def interval(summary: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    """Mean and bounds, or a dash."""
    if math.isnan(summary[name]):
        return "-"
    low, high = (format(summary[f"{name}_{side}"], form) for side in ("low", "high"))
    return f"{summary[name]:{form}} [{low}, {high}]"


def number(value: float, form: str) -> str:
    """A number, or a dash for NaN."""
    return "-" if math.isnan(value) else format(value, form)


def counted(summary: Mapping[str, Any], what: str = "") -> str:
    """Images that went in, and what failed."""
    return f"{summary['n']}" + (
        f" (+{summary['failed']} {what}failed)" if summary["failed"] else ""
    )


def ruled(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table as text."""
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(heads))]
    lines = [heads, ["-" * w for w in widths], *cells]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in lines
    )
