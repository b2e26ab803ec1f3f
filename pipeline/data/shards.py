"""WebDataset tars as random-access samples: index a tar once, then read members by byte offset."""

import hashlib
import json
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from glob import has_magic
from typing import Any

import fsspec
import numpy as np

from pipeline import UsageError
from pipeline.data import IMAGE_EXTENSIONS, Sample, SampleRef, selection
from pipeline.data.catalogue import is_folder, tars
from pipeline.data.index import ShardIndex, load
from pipeline.data.keys import Listed
from pipeline.data.labels import parse_label
from pipeline.data.ranges import read_members
from pipeline.data.selection import Chosen
from pipeline.data.urls import braces, local_path, matches, shard_names, told

logger = logging.getLogger(__name__)

THREADS_LOCAL, THREADS_REMOTE = 8, 32
"""Shards indexed at once: a disk keeps few requests busy, a store answers many."""


@dataclass(frozen=True, kw_only=True)
class Shards:
    """A data set made of WebDataset tars.

    `shards`: paths, fsspec URLs, globs or brace patterns (`{000000..000127}`, `{a,b}`) of tars; or
    a folder of them that says which tars are of which split (`pipeline.data.catalogue`).
    `label`: the member that holds the class index (`cls`) or, as `json.<field>`, a field of it.
    `class_names`: `imagenet`, a JSON list or a text file with one name a line, or None.
    `split`: only samples of this split, by the folder's manifest or else by `split` in each json.
    `keys`: a list of samples (`pipeline.data.keys`): only these. Of what is left, in this order:
    `per_class` samples of each class, `limit` samples in all, the first or, with `seed`, a random
    choice; of these, with `slice`, `i/n`, the i-th of n parts. `exif`: turn images as their EXIF
    tag says (timm and torchvision do not).
    """

    name: str
    shards: str | list[str]
    label: str = "cls"
    class_names: str | None = None
    split: str | None = None
    keys: str | None = None
    per_class: int | None = None
    limit: int | None = None
    seed: int | None = None
    slice: str | None = None
    exif: bool = False

    def __post_init__(self):
        for option in ("limit", "per_class"):
            count = getattr(self, option)
            if count is not None and count < 1:
                raise UsageError(
                    f"dataset.{option}={count}: give a positive number, or null for all"
                )
        if self.seed is not None and self.limit is None and self.per_class is None:
            raise UsageError(
                f"dataset.seed={self.seed} draws a choice: give dataset.limit or "
                "dataset.per_class, its size"
            )
        if self.slice is not None:
            selection.parsed(self.slice)
        if self.label != "cls" and not self.label.startswith("json."):
            raise UsageError(f"dataset.label={self.label!r}: use 'cls' or 'json.<field>'")

    def urls(self) -> list[str]:
        """Every shard, patterns expanded, in the order given."""
        return [url for url, _ in self._found()]

    def _found(self) -> list[tuple[str, bool]]:
        """Every shard, and whether it is known to hold samples of `split` alone."""
        found: list[tuple[str, bool]] = []
        for pattern in [self.shards] if isinstance(self.shards, str) else self.shards:
            for part in braces(pattern):
                listed = not has_magic(part) and is_folder(part)
                urls = tars(part, self.split) if listed else matches(part)
                found += [(url, listed or self.split is None) for url in urls]
        if not found:
            raise UsageError("dataset.shards is empty: name at least one tar, glob or URL")
        return found

    def indexed(self) -> Iterator[Chosen]:
        """Every shard in order with the places of its chosen samples (int64, ascending).

        Shards are indexed ahead, a bounded number of them; those that `keys` does not name are
        left out, as are those after the last sample of `limit`.
        """
        found = self._listed_in()
        if self.per_class is not None:
            found = selection.per_class(found, self.per_class, self._labels, self.seed)
        if self.limit is not None and self.seed is not None:
            found = selection.drawn(found, self.limit, self.seed)
        elif self.limit is not None:
            found = selection.first(found, self.limit)
        if self.slice is not None:
            found = selection.sliced(found, *selection.parsed(self.slice))
        return found

    def index(self) -> Iterator[SampleRef]:
        """Locate the samples, shard by shard, in tar order."""
        for index, places in self.indexed():
            yield from index.refs(places)

    def _listed_in(self) -> Iterator[Chosen]:
        """Every shard that `keys` names, with the places of its samples there and in `split`."""
        urls, sure = zip(*self._found(), strict=True)
        named = shard_names(urls)
        listed = self._listed(named)
        wanted = [i for i, name in enumerate(named) if listed is None or listed.names(name)]
        for i, index in zip(wanted, _loaded([(urls[i], named[i]) for i in wanted]), strict=True):
            places = np.arange(len(index)) if listed is None else listed.places(index)
            if not sure[i]:
                held = [split == self.split for split in _fields(index, places, "split")]
                places = places[np.array(held, dtype=bool)]
            yield index, places
        if listed is not None and (missing := list(listed.missing())):
            said = "dataset.keys=%s: %d of its paths are no samples here, the first: %s"
            logger.warning(said, self.keys, len(missing), missing[0])

    def _listed(self, shards: Sequence[str]) -> Listed | None:
        if self.keys is None:
            return None
        text = _text("dataset.keys", self.keys, "jobs.select writes one")
        return Listed(text, shards, self.keys)

    def _labels(self, index: ShardIndex, places: np.ndarray) -> np.ndarray:
        """Class indices, -1 where there is none."""
        if self.label == "cls":
            return index.labels[places]
        found = _fields(index, places, self.label.partition(".")[2])
        return np.array([f if type(f) is int else -1 for f in found], dtype=np.int64)

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
            return text.splitlines() or None
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


def _fields(index: ShardIndex, places: np.ndarray, field: str) -> list[Any]:
    """A field of each sample's json, None where there is none: as many reads as samples."""

    def read(ref: SampleRef) -> Any:
        if "json" not in ref.members:
            return None
        try:
            held = json.loads(read_members(ref.url, [ref.members["json"]])[0])
        except (ValueError, RecursionError):  # whoever reads the sample is told
            return None
        return held.get(field) if isinstance(held, dict) else None

    threads = THREADS_REMOTE if local_path(index.url) is None else THREADS_LOCAL
    with ThreadPoolExecutor(threads, thread_name_prefix="json") as pool:
        return list(pool.map(read, index.refs(places)))


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
