"""What the driver costs: leases a second through real Ray, with actors that do nothing.

Prints leases and images a second and the driver's CPU, once with single images, as at the tail of a
run, once with slices as the schedule sizes them.

    python -m benchmarks.leases --images 100000 --actors 2
"""

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from pipeline.data.index import ShardIndex
from pipeline.engine import Counters
from pipeline.rows import Committed
from pipeline.studies.curves.rows import CURVES
from pipeline.workers import crew, schedule
from pipeline.workers.backlog import Backlog
from pipeline.workers.cluster import session
from pipeline.workers.driver import Driver
from pipeline.workers.families import Selection
from pipeline.workers.lease import Cell, Report
from pipeline.workers.stop import Stop

SHARD = 1000


class Null:
    """Does nothing, at once."""

    def __init__(self, *_):
        self.calls = 0

    async def ready(self):
        return 1, ray.get_runtime_context().get_node_id(), "here"

    async def exchange(self, leases, low, patience_s, cells):
        self.calls += 1
        return self._report([lease.image for lease in leases])

    async def drain(self):
        return []

    async def close(self):
        return self._report([])

    def _report(self, done):
        return Report(
            done=done,
            cells={},
            in_flight=0,
            oldest=None,
            old=[],
            counters=Counters(forwards=self.calls),
            seconds=1.0,
            sealed=0,
        )


def shards(images: int):
    """Indexes of shards that nobody reads."""
    for shard in range(-(-images // SHARD)):
        keys = [f"n{shard:08d}/{i:08d}" for i in range(min(SHARD, images - shard * SHARD))]
        columns = {
            "key": pa.array(keys),
            "error": pa.nulls(len(keys), pa.string()),
            "extensions": pa.array([[0, 1]] * len(keys), pa.list_(pa.int32())),
            "offsets": pa.array([[512, 120_000]] * len(keys), pa.list_(pa.int64())),
            "sizes": pa.array([[110_000, 3]] * len(keys), pa.list_(pa.int64())),
        }
        batch = pa.RecordBatch.from_pydict(columns)
        index = ShardIndex(f"{shard:05}.tar", f"/{shard:05}.tar", "", (), batch, ("jpg", "cls"))
        yield index, np.arange(len(keys))


def measure(images: int, actors: int, ahead_s: float) -> str:
    """A line of figures."""
    schedule.AHEAD_S = ahead_s
    wanted = [("moxi", o) for o in ("insertion", "deletion")] * 4
    work: Any = SimpleNamespace(kind=CURVES, wanted=wanted, forwards=lambda *_: 1)
    work.fingerprints, work.order_fingerprints = {"moxi": "f"}, {}
    selections = [Selection((0,), shards(images))]
    backlog = Backlog({0: work}, Committed(len(wanted), {}), selections)
    backlog.scan()
    cluster = {"tries": 3, "image_deadline_s": 60, "grace_s": 5, "placement_timeout_s": 60}
    cluster |= {"actors": actors, "threads": 1, "gpus_per_actor": 1.0, "cpu_actors": 0}
    with tempfile.TemporaryDirectory() as folder:
        settings = {"out": str(Path(folder) / "run"), "cluster": cluster}
        up: list[float] = []

        def progress(status):
            if status.done and not up:
                up.append(time.perf_counter())

        cells = {0: Cell(settings=settings, work=work)}
        driver = Driver(cells, backlog, progress, lambda: None, Stop())
        before = time.process_time()
        driver.evaluate()
        seconds, cpu = time.perf_counter() - up[0], time.process_time() - before
    leases = driver.crew.spent.counters.forwards
    return (
        f"{images:,} images in {leases:,} leases: {leases / seconds:,.0f} leases/s, "
        f"{images / seconds:,.0f} images/s, driver {1000 * cpu / leases:.2f} CPU ms a lease, "
        f"{1000 * cpu / images:.3f} an image"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--actors", type=int, default=2)
    options = parser.parse_args()
    crew.Worker = Null
    with session({"address": None}, print):
        print("single images:", measure(min(options.images, 5000), options.actors, 0.0))
        print("slices:       ", measure(options.images, options.actors, 20.0))


if __name__ == "__main__":
    main()
