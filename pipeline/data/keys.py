"""Lists of samples: what jobs.select writes, and the evaluation lists that papers publish.

A line is `<shard> <key>`, or a path with or without a label behind it, as SMDL's lists have them
(`001.Black_footed_Albatross/x.jpg 0`); of a path counts what a key holds too.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from pipeline import UsageError
from pipeline.data import IMAGE_EXTENSIONS
from pipeline.data.index import ShardIndex
from pipeline.data.packers import key_of


class Listed:
    """The samples that the text of a list names, of a data set's `shards`, by their names.

    Raises UsageError for a path that two samples of the data set fit.
    """

    def __init__(self, text: str, shards: Sequence[str], source: str):
        self.source = source
        self._keys: dict[str, set[str]] = {}
        self._paths: dict[str, list[str]] = {}  # by their last part
        self._met: dict[str, str] = {}
        for line in filter(None, map(str.strip, text.splitlines())):
            shard, _, rest = line.partition(" ")
            if rest and (shard in shards or shard.endswith(".tar")):
                self._keys.setdefault(shard, set()).add(rest.strip())
            else:
                path = _path(line)
                self._paths.setdefault(path.rpartition("/")[2], []).append(path)

    def names(self, shard: str) -> bool:
        """Whether samples of a shard may be listed."""
        return bool(self._paths) or shard in self._keys

    def places(self, index: ShardIndex) -> np.ndarray:
        """Places of a shard's samples that are listed, int64, ascending."""
        keys = self._keys.get(index.shard, ())
        every = enumerate(index.keys.to_pylist())
        held = [place for place, key in every if key in keys or self._fits(index.shard, key)]
        return np.array(held, dtype=np.int64)

    def missing(self) -> Iterator[str]:
        """Paths that fitted no sample so far."""
        return (p for of_name in self._paths.values() for p in of_name if p not in self._met)

    def _fits(self, shard: str, key: str) -> bool:
        fitting = False
        for path in self._paths.get(key.rpartition("/")[2], ()):
            if key == path or key.endswith(f"/{path}") or path.endswith(f"/{key}"):
                here = f"{shard} {key}"
                if self._met.setdefault(path, here) != here:
                    raise UsageError(
                        f"dataset.keys={self.source}: {path} is {self._met[path]} and {here}; "
                        "write '<shard> <key>' instead"
                    )
                fitting = True
        return fitting


def _path(line: str) -> str:
    """The path of a line as a key: no label, no extension."""
    labelled = re.fullmatch(r"(.*\S)\s+-?[0-9]+", line)
    path = PurePosixPath(labelled[1] if labelled else line)
    if path.suffix[1:].lower() not in IMAGE_EXTENSIONS:
        return str(path)
    return key_of(path).removeprefix("/")
