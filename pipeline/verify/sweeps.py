"""What a run directory was asked for, by its own account: parts' metadata and config.yaml."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from pipeline import UsageError
from pipeline.rows import RunDir, parts
from pipeline.studies import study_of

BATCH = 1024
"""Rows of a part in memory at a time."""
FREE = ("out", "cluster", "tracking", "lock", "retry", "max_failed", "plugins", "methods", "names")
"""Settings that no content address depends on, and those that are compared one by one."""

Wanted = tuple[str, str, Any]
"""Method, fingerprint and facet of a row that each image should have."""


@dataclass
class Survey:
    """What one part holds; `pairs`: rows of each (fingerprint, facet)."""

    name: str
    made: Mapping[str, Any] = field(default_factory=dict)
    pairs: Counter[tuple[str, Any]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    trouble: str = ""


@dataclass(frozen=True)
class Sweep:
    """A data set's settings and the rows wanted of each of its samples."""

    dataset: Mapping[str, Any]
    wanted: Sequence[Wanted]


def surveyed(run: RunDir, path: str) -> Survey:
    """Read every byte of a part; what is wrong with it becomes `trouble`."""
    survey = Survey(path.rpartition("/")[2])
    facet = run.kind.facet
    columns = ("fingerprint", facet, "status", "error")
    schema = pa.schema([run.kind.schema.field(name) for name in columns])
    try:
        survey.made = parts.metadata(run.fs, path)
        for batch in parts.batches(run.fs, path, BATCH):
            table = parts.cast(path, pa.table(batch), schema)
            counts = table.group_by(["fingerprint", facet]).aggregate([([], "count_all")])
            for row in counts.to_pylist():
                survey.pairs[row["fingerprint"], row[facet]] += row["count_all"]
            failed = table.filter(pc.fill_null(pc.not_equal(table["status"], "ok"), True))
            for count in failed["error"].value_counts().to_pylist():
                survey.reasons[count["values"] or "no reason"] += count["counts"]
    except UsageError as error:
        return Survey(survey.name, trouble=str(error))
    return survey


def sweeps(surveys: Sequence[Survey], accepted: Sequence[Mapping[str, Any]]) -> list[Sweep]:
    """Everything that was asked for: by each part's settings, and by those accepted last."""
    facets: dict[str, set[Any]] = defaultdict(set)
    for survey in surveys:
        for print_, facet in survey.pairs:
            facets[print_].add(facet)
    every = set().union(*facets.values()) or {None}
    found: dict[str, Sweep] = {}
    made = {json.dumps(s.made, sort_keys=True): s.made for s in surveys if _says(s.made)}
    for entry in made.values():
        sweep = Sweep(entry["config"]["dataset"], list(_wanted(entry, facets, every)))
        found[json.dumps([sweep.dataset, sweep.wanted], sort_keys=True)] = sweep
    for settings in accepted:
        prints = {
            name: _print_of(name, settings, list(made.values())) or f"{name}, not computed yet"
            for name in settings["methods"]
        }
        last = {"fingerprints": prints}
        sweep = Sweep(settings["dataset"], list(_wanted(last, facets, every)))
        found[json.dumps([sweep.dataset, sweep.wanted], sort_keys=True)] = sweep
    return list(found.values())


def _wanted(
    made: Mapping[str, Any], facets: Mapping[str, set[Any]], every: set[Any]
) -> Iterator[Wanted]:
    """What provenance says; older parts say no more than fingerprints: the facets seen, then."""
    prints = made["fingerprints"]
    if "wanted" in made:
        yield from ((name, prints[name], facet) for name, facet in made["wanted"])
        return
    for name, print_ in prints.items():
        for facet in sorted(facets.get(print_) or every, key=str):
            yield name, print_, facet


def _says(made: Mapping[str, Any]) -> bool:
    """Whether a part says what it was made of."""
    config, prints = made.get("config"), made.get("fingerprints")
    return (
        isinstance(config, Mapping)
        and isinstance(config.get("dataset"), Mapping)
        and isinstance(prints, Mapping)
        and all(isinstance(print_, str) for print_ in prints.values())
        and all(name in prints for name, _ in made.get("wanted", ()))
    )


def _print_of(
    name: str, accepted: Mapping[str, Any], made: Sequence[Mapping[str, Any]]
) -> str | None:
    """The fingerprint that parts name for a method under the same settings, of the newest."""
    newest = sorted(made, key=lambda entry: entry.get("schema_version", 0), reverse=True)
    for entry in newest:
        config = entry["config"]
        both = (config.get("methods", {}).get(name), accepted["methods"][name])
        if (
            name in entry["fingerprints"]
            and _same(*both)
            and _same(*map(_decisive, (config, accepted)))
        ):
            return entry["fingerprints"][name]
    return None


def _decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that content addresses depend on."""
    decisive = {key: value for key, value in config.items() if key not in FREE}
    decisive["dataset"] = {k: config["dataset"].get(k) for k in ("name", "label", "exif")}
    decisive["engine"] = {"precision": config.get("engine", {}).get("precision")}
    decisive["orders"] = (config.get("orders") or {}).get("fingerprints")  # wherever they lie
    return decisive


def _same(one: Any, other: Any) -> bool:
    """Whether settings agree where both have them: releases add settings."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(_same(one[key], other[key]) for key in one.keys() & other.keys())
    return one == other


def accepted_last(run: RunDir) -> list[Mapping[str, Any]]:
    """The settings accepted last, of each cell of a sweep, that are of this kind of rows."""
    path = run.path("config.yaml")
    try:
        known = list(yaml.safe_load_all(run.fs.cat_file(path)))
        ours = [settings for settings in known if study_of(settings) == run.kind.study]
        return [settings for settings in ours if settings["methods"] and settings["dataset"]]
    except FileNotFoundError:
        return []
    except (yaml.YAMLError, TypeError, KeyError, UnicodeDecodeError):
        raise UsageError(f"{path} holds no settings of a run; remove it") from None
