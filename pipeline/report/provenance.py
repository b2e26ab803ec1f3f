"""How the rows of a page were made: settings, versions, weights, shards, commands."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.rows import RunDir, Storage

FILES = {"config.yaml": "Settings that were accepted last", "shards.json": "Shards"}
"""What a run directory keeps besides rows, and what the page calls it."""
COMMANDS = "command.txt"
LONGEST = 20_000
"""Characters of a file that the page shows."""


@dataclass(frozen=True)
class Made:
    """One way that parts were made: facts by name, the configuration as JSON."""

    facts: Sequence[tuple[str, str]]
    config: str


@dataclass(frozen=True)
class Provenance:
    """Commands that made a run directory, its files, and what its parts say."""

    commands: Sequence[str]
    files: Sequence[tuple[str, str, str]]
    made: Sequence[Made]


def provenance(place: Storage, runs: Sequence[RunDir]) -> Provenance:
    """Of a run directory whose rows lie in `runs`."""
    entries = {json.dumps(entry, sort_keys=True): entry for run in runs for entry in run.metadata()}
    texts = [(name, title, _text(place, name)) for name, title in FILES.items()]
    lines = [line for line in _text(place, COMMANDS).splitlines() if line]
    # a line is the time, then the command
    commands = [f"python -m {line.partition(' ')[2]}" for line in lines]
    return Provenance(
        commands=[*dict.fromkeys(commands), f"python -m jobs.aggregate out={place.out}"],
        files=[(name, title, text) for name, title, text in texts if text],
        made=[_made(entry) for entry in entries.values()],
    )


def _made(entry: dict[str, Any]) -> Made:
    config = entry.get("config", {})
    versions = entry.get("versions", {})
    prints = entry.get("fingerprints", {})
    known = {
        "model": (config.get("model") or {}).get("name"),
        "weights": entry.get("weights_hash"),
        "data set": (config.get("dataset") or {}).get("name"),
        "rows' schema": entry.get("schema_version"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "fingerprints": ", ".join(f"{method} {print_}" for method, print_ in prints.items()),
    }
    facts = [(name, str(value)) for name, value in known.items() if value]
    return Made(facts, json.dumps(config, indent=2))


def _text(place: Storage, name: str) -> str:
    """A file of the run directory, its beginning where it is long; nothing where there is none."""
    try:
        text = place.fs.cat_file(place.path(name)).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n..."
