"""Make docs/reference.md of conf/*.yaml with its comments, the jobs' schemas and the rows' columns.

python -m docs.reference
"""

import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.studies.curves.rows import CURVES

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
PAGE = ROOT / "docs" / "reference.md"
SKIPPED = ("defaults", "hydra")
LINE = re.compile(r"^( *)([\w@.]+):(?: +(.*?))??(?: +# (.*))?$")


class Setting(NamedTuple):
    """A line of a settings file."""

    name: str
    default: str
    comment: str


def settings(path: Path) -> tuple[str, list[Setting]]:
    """A file's leading comment, and its settings by dotted name."""
    comments, found, stack = [], list[Setting](), list[tuple[int, str]]()
    for line in path.read_text().splitlines():
        if line.startswith("#") and not line.startswith(("# @package", "# jobs:")):
            comments.append(line.lstrip("# "))
        match = LINE.match(line)
        if not match or line.lstrip().startswith(("#", "- ")):
            continue
        indent, key, value, comment = len(match[1]), match[2], match[3], match[4] or ""
        while stack and stack[-1][0] >= indent:
            stack.pop()
        parents = [name for _, name in stack]
        if key == "_target_" or (parents or [key])[0] in SKIPPED:
            stack.append((indent, key))
            continue
        if value is not None:
            found.append(Setting(".".join([*parents, key]), value, comment))
        else:
            stack.append((indent, key))
    return " ".join(comments), found


def limits(schema: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """What values a setting may have, by dotted name."""
    for field in dataclasses.fields(schema):
        limit: Any = field.metadata.get("limit")
        if limit is not None:
            yield f"{prefix}{field.name}", limit.words
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from limits(field.type, f"{prefix}{field.name}.")


def job(path: Path) -> Iterator[str]:
    """A job's section: what it does, its settings with defaults and limits."""
    module = importlib.import_module(f"jobs.{path.stem}")
    allowed = dict(limits(module.main.schema))
    doc = ast.get_docstring(ast.parse((ROOT / "jobs" / path.name).with_suffix(".py").read_text()))
    _, own = settings(path)
    yield f"### jobs.{path.stem}\n\n{cell((doc or '').splitlines()[0])}\n"
    yield from table(own, allowed)


def group(folder: Path) -> Iterator[str]:
    """A group's section: its choices, and what can be set about each."""
    yield f"### {folder.name}\n"
    yield "| choice | what it is | settings |\n|---|---|---|"
    for path in sorted(folder.glob("*.yaml")):
        comment, own = settings(path)
        said = [
            cell(f"`{one.name}: {one.default}`" + (f" {one.comment}" if one.comment else ""))
            for one in own
        ]
        yield f"| `{path.stem}` | {cell(comment)} | {'<br>'.join(said)} |"
    yield ""


def table(found: list[Setting], allowed: dict[str, str]) -> Iterator[str]:
    """Settings as a table."""
    yield "| setting | default | meaning |\n|---|---|---|"
    for one in found:
        words = allowed.get(one.name, "")
        meaning = " ".join(filter(None, (one.comment, words and f"({words.partition(';')[0]})")))
        yield f"| `{one.name}` | {cell(f'`{one.default}`')} | {cell(meaning)} |"
    yield ""


def columns() -> Iterator[str]:
    """Columns of the rows with their types. Raises KeyError for one without a meaning."""
    told = yaml.safe_load((ROOT / "docs" / "columns.yaml").read_text())
    meaning = {name: text for names, text in told.items() for name in names.split(", ")}
    if foreign := set(meaning) - set(CURVES.schema.names):
        raise KeyError(f"docs/columns.yaml: no such columns: {', '.join(sorted(foreign))}")
    yield "| column | type | meaning |\n|---|---|---|"
    for field in CURVES.schema:
        kind = str(field.type).replace("element: ", "").replace("item: ", "")
        yield f"| `{field.name}` | `{kind}` | {cell(meaning[field.name])} |"
    yield ""


def cell(text: str) -> str:
    """Text that a table's cell can hold; what stands in backticks is shown as it is."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(p if i % 2 else p.replace("<", "&lt;") for i, p in enumerate(parts))


HEAD = """# Reference

Made by `python -m docs.reference` of `conf/` and of the schemas of jobs and rows. `--help` after
a job prints the same for the components that are chosen. `???`: a value has to be given.

## Jobs

`python -m jobs.<job> key=value ...` or `pixel-quorum <job> ...`; group=name chooses a component.
"""
GROUPS = """## Groups

Settings of a choice lie below the group: `players.grid=7`, `methods.rise.forwards=500`.
"""
COLUMNS = """## Columns of results

Those of `<out>/results/**/*.parquet`; [undesirable pixels](undesirable.md) has the masks'.
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for path in sorted(CONF.glob("*.yaml")):
        lines += job(path)
    lines.append(GROUPS)
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir()):
        if folder.name != "experiment":
            lines += group(folder)
    return "\n".join([*lines, COLUMNS, *columns()]).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
