"""What manifest.json says of packed tars, to people and to `dataset.shards=<folder>`."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pipeline.packing.plan import FORMAT, Plan


def manifest(
    plan: Plan, records: Mapping[str, Mapping[str, Any]], source: Mapping[str, Any]
) -> dict[str, Any]:
    """Of a plan, of size, SHA-256 and plan of each of its shards, and of settings of the reader.

    `splits`: samples, samples with boxes, and samples by class index.
    """
    splits: dict[str, dict[str, Any]] = {}
    for shard in plan.shards:
        of = splits.setdefault(shard.split, {"samples": 0, "boxes": 0, "classes": Counter()})
        for one in shard.samples:
            of["samples"] += 1
            of["boxes"] += bool(one.entry.boxes)
            if one.entry.label is not None:
                of["classes"][one.entry.label] += 1
    for of in splits.values():
        of["classes"] = {str(label): count for label, count in sorted(of["classes"].items())}
    shards = [
        {"name": shard.name, "split": shard.split, **records[shard.name]} for shard in plan.shards
    ]
    return {
        "format": FORMAT,
        "name": plan.name,
        "source": dict(source),
        "samples": plan.images,
        "splits": splits,
        "shards": shards,
    }
