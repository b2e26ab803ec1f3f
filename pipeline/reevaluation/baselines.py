"""What a checkpoint is held against: a run that somebody has promoted under a name, and how it was
made.

    <baselines>/<name>.json    {"run": <directory>, "fingerprints": [...], "model": ..., ...}

A pointer is replaced in one piece; the rows that it means are never touched.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline import UsageError
from pipeline.compare.matching import chosen, few
from pipeline.components import check_targets
from pipeline.rows import Kind, RunDir, Storage
from pipeline.work import SCHEMA_VERSION

NAME = re.compile(r"[\w.-]+", re.ASCII)
LABELS = ("weights", "players", "masking", "curve_masking", "judge", "order_model")
DECIDING = ("players", "masking", "curve_masking", "judge", "target", "orders")
"""Settings in which everything that a baseline holds must agree, besides model and data set."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Rows of one run directory that were made in one way, by method; `images`: how many."""

    name: str
    run: str
    fingerprints: Mapping[str, str]
    model: str
    weights: str
    images: int
    promoted: str = ""


def found(place: str, name: str, kind: Kind, where: Mapping[str, Any]) -> Baseline:
    """A baseline by its name below `place`, or by its run directory.

    Raises UsageError where there is neither, or where the directory holds several ways.
    """
    pointers = Storage(place)
    path = pointers.path(f"{name}.json")
    if NAME.fullmatch(name) and pointers.fs.exists(path):
        content: Any = pointers.fs.cat_file(path)
        try:
            known = Baseline(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{path} is no baseline ({error}); promote it anew") from None
        prints = list(known.fingerprints.values())
        return baseline(RunDir(known.run, kind), {"fingerprint": prints}, name, known.promoted)
    run = RunDir(name, kind)
    if not run.sealed():
        there = ", ".join(n.removesuffix(".json") for n in pointers.names() if n.endswith(".json"))
        raise UsageError(
            f"baseline={name}: neither a name in {place} ({there or 'none there'}) nor a run "
            "directory; name one: jobs.reevaluate promote=true baseline=<name> out=<run directory>"
        )
    return baseline(run, where, name)


def baseline(run: RunDir, where: Mapping[str, Any], name: str, promoted: str = "") -> Baseline:
    """The rows of a run directory that `where` chooses. Raises UsageError where they were made in
    several ways."""
    columns = ["model", *LABELS, "shard", "key", "method", "fingerprint"]
    rows = chosen(run.read(columns), where, "where")
    ways = rows.select(list(LABELS)).group_by(list(LABELS)).aggregate([]).to_pylist()
    models = sorted(set(map(str, rows["model"].to_pylist())))
    if len(ways) > 1:
        column = next(c for c in LABELS if len({way[c] for way in ways}) > 1)
        values = sorted({str(way[column]) for way in ways})
        if column == "weights" and len(models) > 1:
            column, values = "model", models
        raise UsageError(
            f"{run.out} holds rows of several ways: {column} is {few(values)}; choose one with "
            f"+where.{column}=<value>"
        )
    pairs = rows.group_by(["method", "fingerprint"], use_threads=False).aggregate([]).to_pylist()
    prints = {pair["method"]: pair["fingerprint"] for pair in pairs}
    if len(prints) < len(pairs):
        twice = next(p for p in pairs if prints[p["method"]] != p["fingerprint"])
        raise UsageError(
            f"{run.out} holds {twice['method']} with two settings ({twice['fingerprint']}, "
            f"{prints[twice['method']]}); choose one with +where.fingerprint=[<those to keep>]"
        )
    return Baseline(
        name=name,
        run=run.out,
        fingerprints=prints,
        model=models[-1],
        weights=str(ways[0]["weights"]),
        images=len(rows.group_by(["shard", "key"]).aggregate([])),
        promoted=promoted,
    )


def promote(place: str, one: Baseline, run: str) -> str:
    """Point a name at a run, whose place is `run`; returns the pointer's path. Raises UsageError
    for a name that is none."""
    if not NAME.fullmatch(one.name):
        raise UsageError(f"baseline={one.name}: give a name of letters, digits, '.', '_' and '-'")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    pointers = Storage(place)
    path = pointers.path(f"{one.name}.json")
    content = asdict(one) | {"run": run, "promoted": now}
    pointers.write(path, f"{json.dumps(content, indent=1)}\n".encode())
    return path


def settings(one: Baseline, kind: Kind, plugins: Sequence[str]) -> dict[str, Any]:
    """The settings that made a baseline, with all its methods. Classes are ours or of `plugins`.

    Raises UsageError where its files do not say, or a release made it whose rows were others.
    """
    prints = set(one.fingerprints.values())
    made = [
        entry
        for entry in RunDir(one.run, kind).metadata()
        if prints & set(entry.get("fingerprints", {}).values()) and entry.get("config")
    ]
    if not made:
        raise UsageError(f"{one.run}: its files do not say how they were made; evaluate it anew")
    if any(entry["schema_version"] != SCHEMA_VERSION for entry in made):
        raise UsageError(
            f"{one.run}: made by a release whose rows mean something else (version "
            f"{made[0]['schema_version']}, now {SCHEMA_VERSION}); evaluate it anew and promote that"
        )
    last = made[-1]["config"]
    for entry in made:
        for part in DECIDING:
            if entry["config"].get(part) != last.get(part):
                raise UsageError(
                    f"{one.run}: {part} of {one.name} is not the same for all of its methods; "
                    "choose some with +where.method=[...]"
                )
    methods = {
        name: entry["config"]["methods"][name]
        for entry in made
        for name, fingerprint in entry["fingerprints"].items()
        if fingerprint in prints
    }
    config = dict(last) | {"methods": methods, "plugins": list(plugins)}
    check_targets(config, plugins)
    return config


def pinned(one: Baseline, kind: Kind) -> str:
    """The baseline's images as `<shard> <key>` lines, which dataset.keys reads."""
    rows = RunDir(one.run, kind).read(["shard", "key", "fingerprint"])
    mine = chosen(rows, {"fingerprint": list(one.fingerprints.values())}, one.run)
    pairs = mine.group_by(["shard", "key"]).aggregate([]).to_pylist()
    return "".join(f"{line}\n" for line in sorted(f"{p['shard']} {p['key']}" for p in pairs))
