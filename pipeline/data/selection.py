"""Which samples of a data set are used: so many of each class, so many in all, one part of n.

Each takes shards with the places (int64, ascending) of their samples, and gives such.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from pipeline import UsageError
from pipeline.data.index import ShardIndex

Chosen = tuple[ShardIndex, np.ndarray]
Labels = Callable[[ShardIndex, np.ndarray], np.ndarray]
"""Class indices of the samples at some places of a shard, -1 where there is none."""


def per_class(
    found: Iterable[Chosen], count: int, labels: Labels, seed: int | None
) -> Iterator[Chosen]:
    """So many of each class, the first or, with `seed`, any; samples without a label are left."""
    taken: Counter[int] = Counter()

    def wanted(label: int) -> bool:
        taken[label] += 1
        return label >= 0 and taken[label] <= count

    if seed is None:
        for index, places in found:
            held = [wanted(label) for label in labels(index, places).tolist()]
            yield index, places[np.array(held, dtype=bool)]
        return
    every = list(found)
    told = [labels(index, places) for index, places in every]
    label_n = np.concatenate([np.empty(0, np.int64), *told])
    held_n = np.zeros(len(label_n), dtype=bool)
    for sample in np.random.default_rng(seed).permutation(len(label_n)):
        held_n[sample] = wanted(int(label_n[sample]))
    yield from _split(every, held_n)


def drawn(found: Iterable[Chosen], count: int, seed: int) -> Iterator[Chosen]:
    """So many, any."""
    every = list(found)
    total = sum(len(places) for _, places in every)
    held_n = np.zeros(total, dtype=bool)
    held_n[random.Random(seed).sample(range(total), min(count, total))] = True
    yield from _split(every, held_n)


def first(found: Iterable[Chosen], count: int) -> Iterator[Chosen]:
    """So many, the first; what follows is not looked at."""
    left = count
    for index, places in found:
        yield index, places[:left]
        left -= len(places)
        if left <= 0:
            return


def sliced(found: Iterable[Chosen], part: int, of: int) -> Iterator[Chosen]:
    """Every `of`-th sample from the one numbered `part`: parts differ by one sample at the most."""
    before = 0
    for index, places in found:
        yield index, places[(part - before) % of :: of]
        before += len(places)


def parsed(text: str) -> tuple[int, int]:
    """`i/n` as (i, n), i from 0 to n - 1. Raises UsageError."""
    said = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not said or int(said[1]) >= int(said[2]):
        raise UsageError(f"dataset.slice={text}: give i/n, one of n parts, i from 0 to n - 1")
    return int(said[1]), int(said[2])


def _split(every: list[Chosen], held_n: np.ndarray) -> Iterator[Chosen]:
    begin = 0
    for index, places in every:
        yield index, places[held_n[begin : begin + len(places)]]
        begin += len(places)
