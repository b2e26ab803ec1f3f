"""WebDataset tars as random-access samples: index a tar once, then read members by byte offset."""

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

import fsspec

from pipeline import UsageError
from pipeline.data import IMAGE_EXTENSIONS, Sample, SampleRef
from pipeline.data.tars import index_tar, read_members, shard_name
from pipeline.data.urls import braces, matches


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
        names = [shard_name(url) for url in urls]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(
                    f"dataset.shards: two shards are called {name!r}; rows are keyed by shard "
                    "name, so rename one or run them as two data sets"
                )
        return urls

    def index(self) -> Iterator[SampleRef]:
        """Locate the samples, shard by shard, in tar order."""
        listed = self._listed()
        refs = (
            ref
            for url in self.urls()
            for ref in index_tar(url)
            if listed is None or (ref.shard, ref.key) in listed
        )
        if self.limit is None or self.seed is None:
            return itertools.islice(refs, self.limit)
        every = list(refs)
        chosen = random.Random(self.seed).sample(range(len(every)), min(self.limit, len(every)))
        return iter([every[i] for i in sorted(chosen)])

    def read(self, ref: SampleRef) -> Sample:
        """Bytes and label of one sample.

        Raises ValueError with the reason when the sample has no image or a malformed label.
        """
        if ref.error:
            raise ValueError(ref.error)
        image = next((e for e in ref.members if e in IMAGE_EXTENSIONS), None)
        if image is None:
            held = ", ".join(ref.members) or "nothing"
            raise ValueError(f"sample has no image member (it holds {held})")
        member, _, name = self.label.partition(".")
        wanted = [image, member] if member in ref.members else [image]
        encoded, *raw = read_members(ref.url, [ref.members[name] for name in wanted])
        label = _label(raw[0], self.label, name) if raw else None
        return Sample(shard=ref.shard, key=ref.key, encoded=encoded, label=label)

    def _listed(self) -> set[tuple[str, str]] | None:
        if self.keys is None:
            return None
        try:
            with fsspec.open(self.keys, "r") as file:
                pairs = [tuple(line.split(maxsplit=1)) for line in file.read().splitlines()]
        except FileNotFoundError:
            raise UsageError(
                f"dataset.keys={self.keys}: no such file; jobs.select writes it"
            ) from None
        if wrong := [pair for pair in pairs if len(pair) != 2]:
            raise UsageError(f"dataset.keys={self.keys}: {wrong[0]} is no '<shard> <key>' line")
        return set(pairs)

    def names(self) -> list[str] | None:
        """Class names by index, where known."""
        if self.class_names is None:
            return None
        if self.class_names == "imagenet":
            from timm.data import ImageNetInfo

            info = ImageNetInfo()
            return [info.index_to_description(i).split(",")[0] for i in range(info.num_classes())]
        try:
            with fsspec.open(self.class_names, "r") as file:
                text = file.read()
        except FileNotFoundError:
            raise UsageError(
                f"dataset.class_names={self.class_names}: no such file; give a JSON list, a text "
                "file with one name a line, 'imagenet' or null"
            ) from None
        if self.class_names.endswith(".json"):
            return list(json.loads(text))
        return text.splitlines()


def _label(raw: bytes, where: str, field: str) -> int:
    try:
        value = json.loads(raw)[field] if field else raw.decode().strip()
        return int(value)
    except (ValueError, KeyError, TypeError) as error:
        shown = raw[:40].decode(errors="replace")
        raise ValueError(
            f"label member {where!r} holds no class index: {shown!r} ({error})"
        ) from None
