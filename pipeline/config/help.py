"""What `--help` prints: the job, what there is to choose, and YAML files with their comments."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from pipeline.config.composition import CONF
from pipeline.config.mistakes import jobs_of

FOOTER = """
--cfg job prints the settings with what is given instead of running; -m sweeps (key=a,b).
hydra.cc explains the syntax."""


def text(job: str, doc: str, overrides: Sequence[str]) -> str:
    """The help of a job, with the components and experiments that `overrides` choose."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        loader: Any = GlobalHydra.instance().config_loader()
        parts = loader.compute_defaults_list(job, list(overrides), RunMode.RUN).defaults
    own: list[str] = []
    groups: dict[tuple[str, str], list[str]] = {}  # (group, key of its settings) -> choices
    for part in parts:
        group, _, choice = part.config_path.rpartition("/")
        if not (CONF / f"{part.config_path}.yaml").is_file():
            continue  # a schema, or Hydra's own
        if group:
            groups.setdefault((group, part.package or ""), []).append(choice)
        else:
            own += _settings(part.config_path)[1]
    lines = [doc.strip(), ""]
    if groups:
        lines += ["Choose components with group=name:", *_offered([*groups], job), ""]
    lines += ["Change settings with key=value:", "", *own]
    for (group, key), choices in groups.items():
        lines += ["", *_shown(group, key, choices)]
    return "\n".join([*lines, FOOTER])


def _offered(groups: Sequence[tuple[str, str]], job: str) -> Iterator[str]:
    """Each group with its choices; experiments only of this job."""
    for group in dict.fromkeys(_name(*g) for g in [*groups, ("experiment", "")]):
        paths = sorted((CONF / group.partition("@")[0]).glob("*.yaml"))
        names = [p.stem for p in paths if group != "experiment" or job in jobs_of(p)]
        if names:
            line = f"  {group:22} {', '.join(names)}"
            yield from textwrap.wrap(line, 100, subsequent_indent=" " * 25)


def _shown(group: str, key: str, choices: Sequence[str]) -> Iterator[str]:
    """The settings of a group's choices, below the key that they have in the whole."""
    name = choices[0] if len(choices) == 1 else f"[{','.join(choices)}]"
    yield f"# {_name(group, key)}={name}"
    files = [_settings(f"{group}/{choice}") for choice in choices]
    for comments, _ in files:
        yield from comments
    if key and any(lines for _, lines in files):
        yield f"{key}:"
    for _, lines in files:
        yield from (f"  {line}" if key else line for line in lines)


def _settings(config: str) -> tuple[list[str], list[str]]:
    """A file's leading comments, and its settings without what only Hydra reads."""
    comments: list[str] = []
    lines: list[str] = []
    block = ""
    for line in (CONF / f"{config}.yaml").read_text().splitlines():
        if found := re.match(r"(\w+):", line):
            block = found[1]
        if line.startswith("#"):
            if not line.startswith(("# @package", "# jobs:")):
                comments.append(line)
        elif line.strip() and block not in ("defaults", "hydra") and "_target_:" not in line:
            lines.append(line)
    return comments, lines


def _name(group: str, key: str) -> str:
    return group if key in ("", group) else f"{group}@{key}"
