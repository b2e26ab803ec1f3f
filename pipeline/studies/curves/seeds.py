"""Seeds of one control are one method: groups whose settings differ in nothing but a seed."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report import Name
from pipeline.studies.names import Key


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Fingerprints of the seeds, in the order of groups, and the name of them together."""

    fingerprints: tuple[str, ...]
    name: Name


def pools(
    keys: Sequence[Key], named: Mapping[str, Name], provenance: Sequence[Mapping[str, Any]]
) -> list[Pool]:
    """Of all groups; `named` and `provenance` as of `studies.names`."""
    made = {
        f: entry["config"]["methods"][method]
        for entry in provenance
        for method, f in entry.get("fingerprints", {}).items()
        if method in entry.get("config", {}).get("methods", {})
    }
    alike: dict[str, dict[str, Any]] = {}
    for key in keys:
        fingerprint = key["fingerprint"]
        node = made.get(fingerprint)
        if not isinstance(node, Mapping) or "seed" not in node:
            continue
        others = {name: value for name, value in node.items() if name != "seed"}
        labels = {c: key.get(c) for c in key if c not in ("method", "objective", "fingerprint")}
        said = json.dumps([others, labels, _variant(named[fingerprint])], sort_keys=True)
        alike.setdefault(said, {})[fingerprint] = node["seed"]
    return [
        Pool(fingerprints=tuple(seeds), name=_name([named[f] for f in seeds]))
        for seeds in alike.values()
        if len(set(seeds.values())) > 1
    ]


def _variant(name: Name) -> str:
    return ", ".join(p for p in name.variant.split(", ") if p and not p.startswith("seed="))


def _name(names: Sequence[Name]) -> Name:
    stems = dict.fromkeys(re.sub(r"_?\d+$", "", name.method) for name in names)
    return Name(
        method=f"{' and '.join(stems)} ({len(names)} seeds)",
        variant=_variant(names[0]),
        model=names[0].model,
    )
