"""How long a run takes to find out what is missing: synthetic parts of many images.

python -m benchmarks.resume 100000 /tmp/resume
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.rows import METADATA_KEY, Committed, RunDir, parts
from pipeline.studies.curves.rows import CURVES, SCHEMA

SHARD, PART = 1_000, 6_250
"""Images of each."""
OBJECTIVES = ("insertion", "deletion")
METHODS = ("a", "b", "c", "d")


def main(images: int, out: str) -> None:
    """Make parts of `images` x 8 rows of short curves where there are none, then resume."""
    run = RunDir(out, CURVES)
    if not run.sealed():
        for first in range(0, images, PART):
            run.write(run.path("results", f"d-{first:08d}.parquet"), made(first, images))
    wanted = [(f"f-{m}", o) for m in METHODS for o in OBJECTIVES]
    before, started = peak_mb(), time.perf_counter()
    committed = Committed.read(run, wanted, [f"o-{m}" for m in METHODS for _ in OBJECTIVES])
    done = 0
    for first in range(0, images, SHARD):
        shard, keys = name(first), [key(i) for i in range(first, min(first + SHARD, images))]
        done += int(committed.of(shard, keys).done_nW.sum())
    seconds = time.perf_counter() - started
    print(
        f"{images:,} images, {done:,} of {images * len(wanted):,} rows in {len(run.sealed())} "
        f"parts: {seconds:.2f} s, {peak_mb() - before:.0f} MB more at the peak"
    )


def made(first: int, images: int) -> bytes:
    """One part."""
    places = range(first, min(first + PART, images))
    each = [(i, m, o) for i in places for m in METHODS for o in OBJECTIVES]
    columns = {
        "dataset": ["d"] * len(each),
        "shard": [name(i) for i, _, _ in each],
        "key": [key(i) for i, _, _ in each],
        "method": [m for _, m, _ in each],
        "objective": [o for _, _, o in each],
        "fingerprint": [f"f-{m}" for _, m, _ in each],
        "order_fingerprint": [f"o-{m}" for _, m, _ in each],
        "order": [np.arange(8, dtype=np.uint16)] * len(each),
        "status": ["ok"] * len(each),
    }
    full = {n: columns.get(n, pa.nulls(len(each), SCHEMA.field(n).type)) for n in SCHEMA.names}
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps({}).encode()})
    return parts.to_bytes(pa.Table.from_pydict(full, schema=schema))


def name(i: int) -> str:
    return f"train-{i // SHARD:06d}.tar"


def key(i: int) -> str:
    return f"n{i % 997:08d}_{i:08d}"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), str(Path(sys.argv[2])))
