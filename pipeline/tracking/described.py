"""What a tracked run is called and says of itself: ids from fingerprints, settings without secrets.

Settings keep their names and nesting, so that runs of one sweep compare by them. Where a run
directory holds several evaluations, a setting in which they differ lists its values.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.identity import fingerprint
from pipeline.redaction import redacted
from pipeline.rows import Storage
from pipeline.studies import Findings

ELSEWHERE = ("cluster", "lock", "tracking", "retry", "max_failed", "published", "table")
"""Settings that do not say what is computed, or that are no settings to compare runs by."""


def location(out: str) -> str:
    """Where a run directory is, for people and stores elsewhere: an absolute path, or its URL."""
    place = Storage(out)
    return str(Path(place.path()).resolve()) if place.is_local else out.rstrip("/")


def name(out: str) -> str:
    """The last part of its place."""
    return location(out).rstrip("/").rpartition("/")[2]


def evaluation(settings: Mapping[str, Any]) -> str:
    """Id of an evaluation: the same settings in the same place are the same run."""
    return fingerprint({"out": location(settings["out"]), "settings": said(settings)})


def aggregation(settings: Mapping[str, Any], found: Sequence[Findings]) -> str:
    """Id of an aggregation by what it found: the same rows, seen alike, are the same run."""
    told = {key: value for key, value in settings.items() if key != "out"}
    rows = json.loads(json.dumps([list(map(dict, one.summary)) for one in found], default=str))
    return fingerprint({"out": location(settings["out"]), "settings": told, "found": repr(rows)})


def said(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that say what is computed, without secrets."""
    return redacted({key: value for key, value in settings.items() if key not in ELSEWHERE})


def evaluations(found: Sequence[Findings]) -> dict[str, Any]:
    """The settings of all evaluations whose rows were found, as those of one."""
    made = {
        json.dumps(entry["fingerprints"]): said(entry["config"])
        for one in found
        for entry in one.run.metadata()
    }
    return merged(list(made.values()))


def merged(configs: Sequence[Any]) -> Any:
    """One tree of several; a leaf in which they differ lists its values as text."""
    if all(isinstance(config, Mapping) for config in configs):
        keys = dict.fromkeys(key for config in configs for key in config)
        return {key: merged([one[key] for one in configs if key in one]) for key in keys}
    texts = list(dict.fromkeys(map(_text, configs)))
    return configs[0] if len(texts) == 1 else ", ".join(texts)


def flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by dotted name, for trackers that do not nest."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
