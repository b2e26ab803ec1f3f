"""How long jobs.aggregate takes over many rows, and in how much memory.

Writes a run of made-up rows (methods x both objectives x images, curves of --players steps), then
aggregates it in a process of its own. Exit status 1 where that takes more than --seconds or --gib.

    python -m benchmarks.aggregate --rows 1000000
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.rows import METADATA_KEY
from pipeline.rows.parts import ROWS_PER_GROUP
from pipeline.studies.curves.rows import SCHEMA

OBJECTIVES = ("insertion", "deletion")
IMAGES_PER_PART = 200


def written(folder: Path, rows: int, methods: int, players: int) -> int:
    """Parts as workers leave them, an image's rows side by side; how many rows they hold."""
    names = [f"method{i}" for i in range(methods - 3)] + [f"random_{i}" for i in range(3)]
    prints = {name: f"{i:016x}" for i, name in enumerate(names)}
    config = {"dataset": {"name": "made"}, "methods": {n: {"_target_": n} for n in names}}
    for i in range(3):
        config["methods"][f"random_{i}"] = {"_target_": "random", "seed": i}
    metadata = {"fingerprints": prints, "config": config, "schema_version": 3}
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(metadata).encode()})
    images = -(-rows // (2 * methods))
    (folder / "results").mkdir(parents=True)
    for number, first in enumerate(range(0, images, IMAGES_PER_PART)):
        some = range(first, min(first + IMAGES_PER_PART, images))
        table = part(some, prints, players, schema)
        pq.write_table(
            table,
            folder / "results" / f"made-{number:06}.parquet",
            compression="zstd",
            row_group_size=ROWS_PER_GROUP,
            write_page_checksum=True,
        )
    return images * 2 * methods


def part(images: range, prints: dict[str, str], players: int, schema: pa.Schema) -> pa.Table:
    """Rows of some images: noisy curves that rise, or fall, the sooner the better the method."""
    rng = np.random.default_rng(images.start)
    facets = [(name, o) for name in prints for o in OBJECTIVES]
    n, points = len(images) * len(facets), players + 1
    image_n = np.repeat(np.array(images), len(facets))
    place_n = np.tile(np.arange(len(facets)), len(images))
    x_G = np.linspace(0, 1, points, dtype=np.float32)
    pace_n = 2 + place_n // 2 / 3 + rng.random(n)
    rise_nG = x_G ** (1 / pace_n)[:, None]
    fall_n = place_n % 2 == 1
    curve_nG = np.where(fall_n[:, None], 1 - rise_nG, rise_nG)
    curve_nG = (curve_nG + rng.normal(0, 0.03, (n, points))).clip(0.001, 0.999)
    curve_nG = curve_nG.astype(np.float32)
    label_n = (image_n % 1000).astype(np.int32)
    order_nN = rng.random((n, players), dtype=np.float32).argsort(1).astype(np.uint16)
    text = {
        "dataset": ["made"] * n,
        "shard": [f"made-{i // 1000:06}" for i in image_n],
        "key": [f"image{i:08}" for i in image_n],
        "method": [facets[p][0] for p in place_n],
        "objective": [facets[p][1] for p in place_n],
        "fingerprint": [prints[facets[p][0]] for p in place_n],
        "status": ["ok"] * n,
        "measure": ["auc_probability"] * n,
        "judge": ["regions"] * n,
        "model": ["made"] * n,
        "players": ["grid14"] * n,
        "masking": ["zero"] * n,
        "curve_masking": ["zero"] * n,
    }
    area_n = np.trapezoid(curve_nG, x_G, axis=1).astype(np.float64)
    numbers = {
        "label": label_n,
        "prediction": np.where(image_n % 5 == 0, label_n + 1, label_n),
        "target": label_n,
        "n_players": np.full(n, players),
        "auc_probability": area_n,
        "auc_top1": area_n,
        "value": area_n,
        "flip": rng.integers(0, players, n),
        "evaluations": rng.integers(0, 10000, n),
        "seconds": rng.random(n),
    }
    lists = {
        "order": order_nN,
        "fraction": np.broadcast_to(x_G, curve_nG.shape),
        "probability": curve_nG,
        "log_odds": np.log(curve_nG / (1 - curve_nG)),
        "top1": curve_nG > 0.5,
    }
    columns = {name: pa.array(values) for name, values in (text | numbers).items()}
    for name, values in lists.items():
        ends = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
        columns[name] = pa.ListArray.from_arrays(ends, pa.array(np.ravel(values)))
    arrays = [
        columns[field.name].cast(field.type) if field.name in columns else pa.nulls(n, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--methods", type=int, default=10)
    parser.add_argument("--players", type=int, default=196)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--keep", help="write the run here, and use it again where it is there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(given.keep or folder) / "run"
        if not out.exists():
            began = time.monotonic()
            rows = written(out, given.rows, given.methods, given.players)
            print(f"{rows:,} rows written in {time.monotonic() - began:.0f} s", flush=True)
        size = sum(path.stat().st_size for path in (out / "results").iterdir())
        print(f"{size / 2**30:.2f} GiB on disk", flush=True)
        command = [sys.executable, "-m", "jobs.aggregate", f"out={out}"]
        began = time.monotonic()
        done = subprocess.run([*command, "tracking=disabled", "gallery=0"])
        seconds = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    gib = used.ru_maxrss / 2**20
    cpu = used.ru_utime + used.ru_stime
    print(f"aggregated in {seconds:.0f} s ({cpu:.0f} s of CPU), {gib:.2f} GiB at most")
    sys.exit(int(done.returncode != 0 or seconds > given.seconds or gib > given.gib))


if __name__ == "__main__":
    main()
