"""WebDataset tars as random-access samples: index a tar once, then read members by byte offset."""

import hashlib
import json
import random
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import fsspec
import numpy as np

from pipeline import UsageError
from pipeline.data import IMAGE_EXTENSIONS, Sample, SampleRef
from pipeline.data.index import ShardIndex, load
from pipeline.data.labels import parse_label
from pipeline.data.ranges import read_members
from pipeline.data.urls import braces, local_path, matches, shard_names, told

THREADS_LOCAL, THREADS_REMOTE = 8, 32
"""Shards indexed at once: a disk keeps few requests busy, a store answers many."""


@dataclass(frozen=True, kw_only=True)
class Shards:
    """A data set made of WebDataset tars.

    `shards`: paths, fsspec URLs, globs or brace patterns (`{000000..000127}`, `{a,b}`).
    `label`: the member that holds the class index (`cls`) or, as `json.<field>`, a field of it.
    `class_names`: `imagenet`, a JSON list or a text file with one name a line, or None.
    `keys`: a text file of `<shard> <key>` lines (jobs.select writes one): only these samples.
    `limit`: only so many samples, the first or, with `seed`, a random choice. `exif`: turn images
    as their EXIF tag says (timm and torchvision do not).
    """

    name: str
    shards: str | list[str]
    label: str = "cls"
    class_names: str | None = None
    keys: str | None = None
    limit: int | None = None
    seed: int | None = None
    exif: bool = False

    def __post_init__(self):
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"dataset.limit={self.limit}: give a positive number, or null for all")
        if self.seed is not None and self.limit is None:
            raise UsageError(
                f"dataset.seed={self.seed} draws a choice: give dataset.limit, its size"
            )
        if self.label != "cls" and not self.label.startswith("json."):
            raise UsageError(f"dataset.label={self.label!r}: use 'cls' or 'json.<field>'")

    def urls(self) -> list[str]:
        """Every shard, patterns expanded, in the order given."""
        patterns = [self.shards] if isinstance(self.shards, str) else list(self.shards)
        urls = [url for pattern in patterns for part in braces(pattern) for url in matches(part)]
        if not urls:
            raise UsageError("dataset.shards is empty: name at least one tar, glob or URL")
        return urls

    def indexed(self) -> Iterator[tuple[ShardIndex, np.ndarray]]:
        """Every shard in order with the places of its chosen samples (int64, ascending).

        Shards are indexed ahead, a bounded number of them; those that `keys` does not name are
        left out, as are those after the last sample of `limit`.
        """
        if self.limit is not None and self.seed is not None:
            every = list(self._listed_in())
            total = sum(len(places) for _, places in every)
            drawn = random.Random(self.seed).sample(range(total), min(self.limit, total))
            chosen, first = np.sort(np.array(drawn, dtype=np.int64)), 0
            for index, places in every:
                low, high = np.searchsorted(chosen, [first, first + len(places)])
                yield index, places[chosen[low:high] - first]
                first += len(places)
            return
        left = self.limit
        for index, places in self._listed_in():
            yield index, places[:left]
            if left is not None:
                left -= len(places)
                if left <= 0:
                    return

    def index(self) -> Iterator[SampleRef]:
        """Locate the samples, shard by shard, in tar order."""
        for index, places in self.indexed():
            yield from index.refs(places)

    def _listed_in(self) -> Iterator[tuple[ShardIndex, np.ndarray]]:
        """Every shard that `keys` names, with the places of the samples that it lists."""
        urls = self.urls()
        named = list(zip(urls, shard_names(urls), strict=True))
        listed = self._listed()
        if listed is None:
            for index in _loaded(named):
                yield index, np.arange(len(index))
            return
        for index in _loaded([(url, name) for url, name in named if name in listed]):
            keys = listed[index.shard]
            held = [key in keys for key in index.keys.to_pylist()]
            yield index, np.flatnonzero(np.array(held, dtype=bool))

    def read(
        self, ref: SampleRef, members: Sequence[str] = (), beside: Sequence[str] = ()
    ) -> Sample:
        """Bytes and label of one sample, and those of `members` (extensions) that it has; those of
        `beside` too, but they are not part of the sample's `content`.

        Raises ValueError with the reason when the sample has no image or a malformed label;
        Unreadable when the storage fails for longer than some 30 seconds.
        """
        if ref.error:
            raise ValueError(ref.error)
        kinds = set(IMAGE_EXTENSIONS) - {*members, *beside}
        image = next((e for e in ref.members if e in kinds), None)
        if image is None:
            held = ", ".join(ref.members) or "nothing"
            raise ValueError(f"sample has no image member (it holds {held})")
        member = self.label.partition(".")[0]
        names = dict.fromkeys((image, member, *members, *beside))
        wanted = [name for name in names if name in ref.members]
        parts = read_members(ref.url, [ref.members[name] for name in wanted])
        found = dict(zip(wanted, parts, strict=True))
        encoded, raw = found[image], found.get(member)
        label = None if raw is None else parse_label(raw, self.label)
        content = hashlib.blake2b(len(encoded).to_bytes(8, "big"), digest_size=8)
        for part in (encoded, raw or b""):
            content.update(part)
        others = {name: found[name] for name in (*members, *beside) if name in found}
        for name in dict.fromkeys(members):
            if name in others:
                content.update(f"{name} {len(others[name])} ".encode() + others[name])
        return Sample(
            shard=ref.shard,
            key=ref.key,
            encoded=encoded,
            label=label,
            content=content.hexdigest(),
            members=others,
            exif=self.exif,
        )

    def _listed(self) -> dict[str, set[str]] | None:
        """The keys that are asked for, by shard."""
        if self.keys is None:
            return None
        listed: dict[str, set[str]] = defaultdict(set)
        for line in _text("dataset.keys", self.keys, "jobs.select writes it").split("\n"):
            if not line.strip():
                continue
            pair = line.removesuffix("\r").split(maxsplit=1)
            if len(pair) != 2:
                raise UsageError(
                    f"dataset.keys={self.keys}: {line[:80]!r} is no '<shard> <key>' line"
                )
            listed[pair[0]].add(pair[1])
        return listed

    def names(self) -> list[str] | None:
        """Class names by index, where known."""
        if self.class_names is None:
            return None
        if self.class_names == "imagenet":
            from timm.data import ImageNetInfo

            info = ImageNetInfo()
            return [info.index_to_description(i).split(",")[0] for i in range(info.num_classes())]
        fix = "give a JSON list, a text file with one name a line, 'imagenet' or null"
        text = _text("dataset.class_names", self.class_names, fix)
        if not self.class_names.endswith(".json"):
            return text.splitlines()
        try:
            names = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"dataset.class_names={self.class_names} is no JSON ({error}); {fix}"
            ) from None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UsageError(f"dataset.class_names={self.class_names} is no list of names; {fix}")
        return names


def _text(option: str, url: str, fix: str) -> str:
    """A text file. Raises UsageError of one line that names the option and the fix."""
    with told(option, url):
        try:
            with fsspec.open(url, "r", encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            raise UsageError(f"{option}={url}: no such file; {fix}") from None


def _loaded(named: list[tuple[str, str]]) -> Iterator[ShardIndex]:
    """Indexes of (url, name) in order; ever more ahead, up to one a thread, so that whoever needs
    few shards does not begin many."""
    if not named:
        return
    threads = THREADS_REMOTE if local_path(named[0][0]) is None else THREADS_LOCAL
    pool = ThreadPoolExecutor(threads, thread_name_prefix="index")
    ahead: deque[Future[ShardIndex]] = deque()
    most = 1
    try:
        for url, name in named:
            ahead.append(pool.submit(load, url, name))
            if len(ahead) >= most:
                yield ahead.popleft().result()
                most = min(2 * most, threads)
        while ahead:
            yield ahead.popleft().result()
    finally:  # whoever has seen enough does not wait for what was begun ahead
        pool.shutdown(wait=False, cancel_futures=True)
