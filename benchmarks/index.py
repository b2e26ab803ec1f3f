"""Seconds to know where the samples of many shards lie: cold, from the cache, to the first shard.

`python -m benchmarks.index --shards 1000 --samples 100`
"""

import argparse
import io
import os
import tarfile
import tempfile
import time
from pathlib import Path

from pipeline.data.shards import Shards


def write(folder: Path, shards: int, samples: int, image_bytes: int = 1000) -> None:
    """Shards of `jpg` and `cls` members; the images are noise, since none is decoded."""
    image = os.urandom(image_bytes)
    for number in range(shards):
        with tarfile.open(folder / f"{number:06d}.tar", "w") as tar:
            for key in range(samples):
                for extension, content in (("jpg", image), ("cls", b"7")):
                    info = tarfile.TarInfo(f"{number:06d}{key:06d}.{extension}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


def timed(data: Shards) -> tuple[float, float, int]:
    """Seconds to the first shard and to the last, and the number of samples."""
    begun, first, total = time.perf_counter(), 0.0, 0
    for index, places in data.indexed():
        first = first or time.perf_counter() - begun
        total += len(places)
        del index
    return first, time.perf_counter() - begun, total


def main() -> None:
    """Print a line for the cold and one for the warm index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PIXEL_QUORUM_CACHE"] = f"{folder}/cache"
        write(Path(folder), options.shards, options.samples)
        for state in ("cold", "warm"):
            first, last, total = timed(Shards(name="x", shards=f"{folder}/*.tar"))
            print(f"{state}: first shard {first:.3f} s, all {total} samples {last:.2f} s")


if __name__ == "__main__":
    main()
