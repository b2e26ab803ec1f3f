"""One packer a source layout: a module with `samples()`, which yields WebDataset sample dicts.

A sample dict is `{"__key__": str, "<image extension>": bytes, "cls": int, "json": dict}`.
"""

from collections.abc import Iterable
from pathlib import Path

import webdataset


def pack(samples: Iterable[dict], folder: Path, *, name: str, samples_per_shard: int) -> list[Path]:
    """Write samples as `<folder>/<name>-000000.tar`, ...; returns the shards written."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = str(folder / f"{name}-%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=samples_per_shard, verbose=0, mtime=0) as writer:
        for sample in samples:
            writer.write(sample)
        shards = writer.shard
    return [Path(pattern % i) for i in range(shards)]
