"""WebDataset tars as random-access samples: index a tar once, then read members by byte offset."""

import glob
import itertools
import json
import logging
import random
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec

from pipeline import UsageError
from pipeline.data import IMAGE_EXTENSIONS, Sample, SampleRef

logger = logging.getLogger(__name__)

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_BRACES = re.compile(r"\{([^{}]*)\}")


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
        urls = [url for pattern in patterns for part in braces(pattern) for url in _matches(part)]
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
        with fsspec.open(ref.url, "rb") as file:
            encoded = _slice(file, ref.members[image])
            raw = _slice(file, ref.members[member]) if member in ref.members else None
        return Sample(
            shard=ref.shard, key=ref.key, encoded=encoded, label=_label(raw, self.label, name)
        )

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


def shard_name(url: str) -> str:
    """File name of a shard; rows carry it, so that a data set may move."""
    return PurePosixPath(url).name


def braces(pattern: str) -> list[str]:
    """Expand `{a,b}` and `{000..127}` (zero-padded as written), all of them, left to right."""
    match = _BRACES.search(pattern)
    if not match:
        return [pattern]
    body = match[1]
    if bounds := re.fullmatch(r"(\d+)\.\.(\d+)", body):
        first, last = bounds[1], bounds[2]
        items = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    else:
        items = body.split(",")
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [full for item in items for full in braces(head + item + tail)]


def index_tar(url: str) -> list[SampleRef]:
    """Samples of one uncompressed tar, in order.

    A tar that is cut off yields the samples before the cut and, for the sample at the cut, one
    that carries the reason. Duplicate members and compressed tars raise UsageError.
    """
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    errors: dict[str, str] = {}
    last = None
    try:
        with fsspec.open(url, "rb") as opened:
            file: Any = opened
            size = file.seek(0, 2)
            _refuse_compressed(url, file)
            file.seek(0)
            if size == 0:
                return []
            with tarfile.open(fileobj=file, mode="r:") as tar:
                try:
                    for member in tar:
                        if not member.isfile():
                            continue
                        key, extension = split_name(member.name)
                        if extension is None or key.startswith("__"):
                            continue
                        members = samples.setdefault(key, {})
                        if extension in members:
                            raise UsageError(
                                f"{url}: member {member.name!r} appears twice (at bytes "
                                f"{members[extension][0]} and {member.offset_data}); pack it anew"
                            )
                        members[extension] = (member.offset_data, member.size)
                        last = key
                        if member.offset_data + member.size > size:
                            errors[key] = f"shard is cut off inside {member.name!r}"
                            logger.warning("%s %s", url, errors[key])
                            break
                except tarfile.ReadError as error:
                    logger.warning("%s is cut off after sample %r: %s", url, last, error)
                    if last is not None and set(samples[last]) != set(next(iter(samples.values()))):
                        errors[last] = f"shard is cut off inside this sample ({error})"
    except FileNotFoundError:
        raise UsageError(f"dataset.shards: {url} does not exist; check the path") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UsageError(f"dataset.shards: {url} cannot be read: {error.strerror}") from None
    except tarfile.ReadError as error:
        raise UsageError(f"{url} is not a tar file ({error}); pack it as a plain tar") from None
    shard = shard_name(url)
    return [
        SampleRef(shard=shard, url=url, key=key, members=members, error=errors.get(key))
        for key, members in samples.items()
    ]


def split_name(name: str) -> tuple[str, str | None]:
    """WebDataset's rule: the key ends at the first dot of the base name; the rest is extension."""
    path = PurePosixPath(name.removeprefix("./"))
    base, dot, extension = path.name.partition(".")
    if not dot or not base:
        return str(path), None
    return str(path.with_name(base)), extension.lower()


def _matches(path: str) -> list[str]:
    if not glob.has_magic(path):
        return [path]
    fs, pattern = fsspec.core.url_to_fs(path)
    found = sorted(fs.glob(pattern))
    if not found:
        raise UsageError(f"dataset.shards: nothing matches {path}")
    local = "file" in fs.protocol
    return [str(f) if local else fs.unstrip_protocol(f) for f in found]


def _refuse_compressed(url: str, file) -> None:
    file.seek(0)
    magic = file.read(6)
    for prefix, kind in _COMPRESSED.items():
        if magic.startswith(prefix):
            raise UsageError(
                f"{url} is {kind}-compressed: members cannot be read by offset; unpack it to a "
                "plain tar (images are compressed already)"
            )


def _slice(file, place: tuple[int, int]) -> bytes:
    file.seek(place[0])
    return file.read(place[1])


def _label(raw: bytes | None, where: str, field: str) -> int | None:
    if raw is None:
        return None
    try:
        value = json.loads(raw)[field] if field else raw.decode().strip()
        return int(value)
    except (ValueError, KeyError, TypeError) as error:
        shown = raw[:40].decode(errors="replace")
        raise ValueError(
            f"label member {where!r} holds no class index: {shown!r} ({error})"
        ) from None
