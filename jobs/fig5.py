"""MoXI's Fig. 5 with ground truth: pairs of photographs, each class explained in turn.

Prints how often the class could be made the prediction, and which share of its players lies in the
half that shows it.

    python -m jobs.fig5
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jobs.evaluate import EvaluateConfig
from pipeline import workers
from pipeline.config import entry_point, record
from pipeline.experiments.composites import Composites
from pipeline.packing import pack
from pipeline.packing.plan import planned
from pipeline.rows import RunDir
from pipeline.rows.storage import Storage
from pipeline.studies.curves.rows import CURVES


@entry_point("fig5", EvaluateConfig)
def main(settings: dict[str, Any]) -> None:
    """Pack, evaluate what is missing, tell."""
    folder = Path(settings["dataset"]["shards"]).parent
    plan = planned(Composites(), name="composite", samples_per_shard=28)
    pack(plan, Storage(str(folder)), source={"composites": "of the demo's photographs"})
    workers.run("curves", settings, accepted=record)
    every = RunDir(settings["out"], CURVES).read().to_pylist()
    rows = [r for r in every if r["method"] == "class_targeted"]
    failed = sum(r["status"] != "ok" for r in rows)
    found = [r | json.loads(r["details"]) for r in rows if r["status"] == "ok"]
    reached = [r for r in found if r["reached"]]
    inside = np.array([_inside(r) for r in reached])
    hidden = [r["phase_a"] for r in reached]
    rate = 100 * len(reached) / max(1, len(found))
    print(f"{len(found)} composites and classes ({failed} failed)")
    print(f"the class became the prediction: {len(reached)} ({rate:.0f} %)")
    if reached:
        print(f"players hidden in phase A: {np.mean(hidden):.1f} on average")
        print(f"phase B mostly in the class's half: {100 * (inside > 0.5).mean():.0f} %")
        print(f"share of phase B's players in that half: {100 * inside.mean():.0f} % on average")
    others = [_inside(r) > 0.5 for r in reached if r["prediction"] != r["target"]]
    if others:
        print(f"... of {len(others)} not predicted at first: {100 * np.mean(others):.0f} % mostly")
    print(f"next: python -m jobs.aggregate out={settings['out']}")


def _inside(row: dict[str, Any]) -> float:
    """Share of phase B's players in the label's half; those that straddle the middle count half."""
    grid = round(row["n_players"] ** 0.5)
    column = np.array(row["order"][row["phase_a"] :]) % grid
    left = np.clip(grid / 2 - column, 0, 1).mean()  # how much of a player lies left of the middle
    return float(left if row["key"].endswith("left") else 1 - left)


if __name__ == "__main__":
    main()
