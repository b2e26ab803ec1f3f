"""Whether memory grows from image to image: every method that fits the model, many small images.

One engine in this process, as in an actor, players of a grid. Prints host (and CUDA) memory every
50 images; exit status 1 where it has grown by more than `--bound` MB since the first 50.

    python -m benchmarks.growth --images 500    # half an hour on two busy cores
    python -m benchmarks.growth --images 60 --methods random_0 saliency moxi_insertion
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.overhead import write
from pipeline import UsageError
from pipeline.api.presets import chosen
from pipeline.config import CONF
from pipeline.data.shards import Shards
from pipeline.engine import Engine, Task
from pipeline.failures import told
from pipeline.judges.regions import Regions
from pipeline.masking.zero import Zero
from pipeline.methods import Method
from pipeline.models import Model
from pipeline.models.timm import TimmModel
from pipeline.players.patch_grid import PatchGrid
from pipeline.studies.curves.work import CurvesWork

EVERY = 50


def fitting(model: Model, grid: int, names: list[str], forwards: int) -> dict[str, Method]:
    """Methods of conf/methods, or those named, that work with the model, their budgets cut; why the
    others do not is printed."""
    known = names or sorted(path.stem for path in (CONF / "methods").glob("*.yaml"))
    found: dict[str, Method] = {}
    for name in known:
        try:
            method: Any = chosen("methods", name)
            if hasattr(method, "batch"):  # of another study
                continue
            if getattr(method, "forwards", 0) > forwards:
                method = replace(method, forwards=forwards)
            work_of(model, grid, [], {name: method}).check()
        except UsageError as error:
            print(f"without {name}: {error}")
        else:
            found[name] = method
    return found


def work_of(model: Model, grid: int, shards: list[str], methods: dict[str, Method]) -> CurvesWork:
    """The work that an actor would do."""
    return CurvesWork(
        data=Shards(name="small", shards=shards),
        model=model,
        players=PatchGrid(grid=grid),
        masking=Zero(),
        curve_masking=Zero(),
        judge=Regions(),
        methods=methods,
        names={},
        fingerprints=dict.fromkeys(methods, ""),
        order_fingerprints=dict.fromkeys(methods, ""),
    )


def memory(device: torch.device) -> list[float]:
    """MB of the process, and of tensors on a GPU."""
    host = psutil.Process().memory_info().rss / 1e6
    return [host, torch.cuda.memory_allocated(device) / 1e6] if device.type == "cuda" else [host]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--methods", nargs="*", default=[], help="names of conf/methods; all")
    parser.add_argument("--forwards", type=int, default=24, help="at the most, of a budget")
    parser.add_argument("--model", default="test_efficientnet", help="a timm name; random weights")
    parser.add_argument("--size", type=int, default=64, help="of the model's input, pixels")
    parser.add_argument("--grid", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--bound", type=float, default=50.0, help="MB after the first 50 images")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    size = {"input_size": [3, given.size, given.size]}
    kwargs = {"num_classes": 10}
    network = TimmModel(name=given.model, weights="random", kwargs=kwargs, preprocessing=size)
    model = network.load("cuda" if torch.cuda.is_available() else "cpu")
    methods = fitting(model, given.grid, given.methods, given.forwards)
    print(f"{given.model}, {model.device}: {', '.join(methods)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), given.images)
        work = work_of(model, given.grid, [f"{folder}/small-*.tar"], methods)
        grown = run(work, given.images, given.in_flight)
    print("grown since the first 50 images: " + ", ".join(f"{mb:+.1f} MB" for mb in grown))
    sys.exit(int(max(grown) > given.bound))


def run(work: CurvesWork, images: int, in_flight: int) -> list[float]:
    """MB by which each memory has grown between image 50 and the last."""

    def tasks() -> Iterator[Task]:
        for ref in work.data.index():
            yield work.explain(work.read(ref, work.wanted, {}), work.wanted, {})

    first: list[float] | None = None
    now, began = memory(work.model.device), time.monotonic()
    errors: Counter[str] = Counter()
    rows_done = 0
    results = Engine(work.model).run(tasks(), in_flight=in_flight)
    for done, rows in enumerate(results, start=1):
        rows_done += len(rows)
        errors.update(str(row["error"]) for row in rows if row["status"] != "ok")
        if done % EVERY == 0 or done == images:
            now = memory(work.model.device)
            first = first or now
            said = ", ".join(f"{mb:.1f} MB" for mb in now)
            print(f"{done:6} images, {time.monotonic() - began:6.0f} s: {said}", flush=True)
    if errors:
        print(told(errors, rows_done))
    return [last - begin for last, begin in zip(now, first or now, strict=True)]


if __name__ == "__main__":
    main()
