"""List correctly classified images of a run, so many a class, for dataset.keys.

Get predictions first:

    python -m jobs.evaluate dataset=imagenet model=timm model.name=resnet18.a1_in1k \\
        players.grid=1 methods=[random_0] out=runs/predictions
    python -m jobs.select out=runs/predictions keys=data/imagenet/correct-resnet18.txt
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
from omegaconf import MISSING

from pipeline import UsageError
from pipeline.config import entry_point
from pipeline.config.limits import at_least, setting
from pipeline.rows import RunDir
from pipeline.studies.curves.rows import CURVES

Place = tuple[str, str]
"""Shard and key."""


@dataclass
class SelectConfig:
    """Settings: see conf/select.yaml."""

    out: str = MISSING
    keys: str = MISSING
    per_class: int = setting(1, at_least(1))
    classes: list[int] | None = None


@entry_point("select", SelectConfig)
def main(settings: dict[str, Any]) -> None:
    """First come, first chosen, in the order of shard and key; `dataset.keys` reads the list."""
    columns = ["shard", "key", "label", "prediction", "status"]
    rows = RunDir(settings["out"], CURVES).read(columns).to_pylist()
    chosen = choose(rows, per_class=settings["per_class"], classes=settings["classes"])
    if not chosen:
        raise UsageError(
            f"out={settings['out']}: no image there is labelled and classified correctly"
        )
    with fsspec.open(settings["keys"], "w", auto_mkdir=True) as file:
        file.writelines(f"{shard} {key}\n" for shard, key in sorted(chosen))
    print(f"{len(chosen)} images of {len(set(chosen.values()))} classes in {settings['keys']}")


def choose(
    rows: Iterable[Mapping[str, Any]], *, per_class: int, classes: list[int] | None
) -> dict[Place, int]:
    """Labels of the images chosen: those that every row, so every model, classifies correctly."""
    labels: dict[Place, int] = {}
    wrong: set[Place] = set()
    for row in rows:
        if row["status"] == "ok" and row["label"] is not None:
            labels[row["shard"], row["key"]] = row["label"]
            if row["label"] != row["prediction"]:
                wrong.add((row["shard"], row["key"]))
    chosen: dict[Place, int] = {}
    taken: dict[int, int] = {}
    for place, label in sorted(labels.items()):
        wanted = place not in wrong and (classes is None or label in classes)
        if wanted and taken.get(label, 0) < per_class:
            chosen[place] = label
            taken[label] = taken.get(label, 0) + 1
    return chosen


if __name__ == "__main__":
    main()
