"""Write a list of correctly classified images, so many a class, from a run's rows."""

from typing import Any

import fsspec

from pipeline import UsageError
from pipeline.config import entry_point
from pipeline.results import Run


@entry_point("select")
def main(settings: dict[str, Any]) -> None:
    """First come, first chosen, in the order of shard and key; `dataset.keys` reads the list."""
    rows = Run(settings["out"]).read(["shard", "key", "label", "prediction", "status"]).to_pylist()
    right = {
        (r["shard"], r["key"]): r["label"]
        for r in rows
        if r["status"] == "ok" and r["label"] is not None and r["label"] == r["prediction"]
    }
    chosen: dict[int, list[tuple[str, str]]] = {}
    for place, label in sorted(right.items()):
        wanted = settings["classes"] is None or label in settings["classes"]
        if wanted and len(chosen.get(label, [])) < settings["per_class"]:
            chosen.setdefault(label, []).append(place)
    if not chosen:
        raise UsageError(
            f"out={settings['out']}: no image there is labelled and classified correctly"
        )
    lines = sorted(place for places in chosen.values() for place in places)
    with fsspec.open(settings["keys"], "w", auto_mkdir=True) as file:
        file.writelines(f"{shard} {key}\n" for shard, key in lines)
    print(f"{len(lines)} images of {len(chosen)} classes in {settings['keys']}")


if __name__ == "__main__":
    main()
