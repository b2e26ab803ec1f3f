"""What everything around the engine costs: many small images, a tiny model, 16 players.

Runs jobs.evaluate on synthetic tars and prints images a second, how busy the engines were, CPU
seconds of the driver, and the memory of each over time.

    python -m benchmarks.overhead --images 20000
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

SHARD = 1000
LOOK_S = 10.0


def write(folder: Path, images: int) -> None:
    """Tars of JPEGs of 96 x 96 pixels."""
    rng, encoded = np.random.default_rng(0), []
    for _ in range(50):
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3)).astype(np.uint8))
        buffer = io.BytesIO()
        small.resize((96, 96), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    for first in range(0, images, SHARD):
        with tarfile.open(folder / f"small-{first:08}.tar", "w") as tar:
            for i in range(first, min(images, first + SHARD)):
                for extension, content in (("jpg", encoded[i % 50]), ("cls", b"1")):
                    info = tarfile.TarInfo(f"{i:08}.{extension}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


def memory(driver: psutil.Process) -> dict[str, float]:
    """MB of the driver and of all workers."""
    found = {"driver": driver.memory_info().rss / 1e6, "workers": 0.0}
    for child in driver.children(recursive=True):
        try:
            if "ray::Worker" in " ".join(child.cmdline()[:1]):
                found["workers"] += child.memory_info().rss / 1e6
        except psutil.Error:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    options, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.images)
        command = [
            *(sys.executable, "-m", "jobs.evaluate", "dataset.name=small", f"out={folder}/run"),
            *(f"dataset.shards={folder}/small-*.tar", "model=timm", "model.name=test_efficientnet"),
            *("model.weights=random", "+model.kwargs.num_classes=10", "players.grid=4"),
            *("methods=[moxi_minus,random_0]", "tracking=disabled", "cluster.threads=1"),
            *("cluster.actors=2", *more),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        driver, began, looked = psutil.Process(process.pid), time.monotonic(), 0.0
        while process.poll() is None:
            if time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                used, cpu = memory(driver), sum(driver.cpu_times()[:2])
                each = ", ".join(f"{name} {mb:.0f} MB" for name, mb in used.items())
                print(f"{looked - began:.0f} s: {each}, driver {cpu:.0f} CPU s", flush=True)
            time.sleep(0.5)
        print(process.stdout.read() if process.stdout else "")
        told = json.loads((folder / "run" / "progress.json").read_text())
        engine = told["spent"]["seconds"]
        wall = sum(told["spent"]["seconds"] / max(1e-9, a["busy"]) for a in told["actors"]) / 2
        print(f"{1000 * (wall - engine) / told['done']:.2f} ms an image outside the engines")


if __name__ == "__main__":
    main()
