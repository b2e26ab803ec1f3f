"""Which image goes into which tar, decided before any is read."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from pipeline import UsageError
from pipeline.components import one_line
from pipeline.data import IMAGE_EXTENSIONS
from pipeline.data.packers import Entry, Reader
from pipeline.data.tars import BLOCK, printable, split_name

FORMAT = 1
"""Part of every plan: raise it when a change alters a tar's bytes."""
STRIDE = 4096
"""Files looked at between two reports."""
THREADS = 16
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Planned:
    """One sample: its entry, bytes of the image, what its json holds; `stamp` changes with the
    image."""

    entry: Entry
    size: int
    stamp: str
    json: bytes

    @property
    def cls(self) -> bytes | None:
        """What the member with the class index holds."""
        return None if self.entry.label is None else str(self.entry.label).encode()

    @property
    def tar_bytes(self) -> int:
        """Bytes in a tar, headers included."""
        parts = (self.size, len(self.json), 1 if self.cls else None)
        return sum(BLOCK + -(-part // BLOCK) * BLOCK for part in parts if part is not None)


@dataclass(frozen=True)
class ShardPlan:
    """One tar: its file name, the split of its samples, the samples in order."""

    name: str
    split: str
    samples: Sequence[Planned]

    @cached_property
    def digest(self) -> str:
        """Changes with whatever would change the tar; hexadecimal."""
        found = hashlib.sha256(f"{FORMAT}\n".encode())
        for one in self.samples:
            said = [one.entry.key, one.entry.extension, one.entry.label, one.size, one.stamp]
            found.update(json.dumps(said).encode() + one.json + b"\n")
        return found.hexdigest()


@dataclass(frozen=True)
class Plan:
    """All tars of a data set, and names by class index."""

    name: str
    shards: Sequence[ShardPlan]
    class_names: Sequence[str] = field(repr=False)

    @cached_property
    def names(self) -> set[str]:
        """File names of the tars."""
        return {shard.name for shard in self.shards}

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(len(shard.samples) for shard in self.shards)


def planned(
    reader: Reader,
    *,
    name: str,
    shard_mb: float = 128,
    samples_per_shard: int | None = None,
    told: Callable[[int], None] = lambda images: None,
) -> Plan:
    """Shards of at most `shard_mb` million bytes and `samples_per_shard` samples, split by split.

    The order is the reader's. `told` hears how many images have been looked at. Raises UsageError
    for annotations that are wrong, images that are missing and keys that two images would share.
    """
    _check_word("dataset.name", name)
    class_names = reader.class_names()
    splits: dict[str, list[Planned]] = {}
    missing: list[Entry] = []
    for one in _looked_at(reader, class_names, told):
        if isinstance(one, Entry):
            missing.append(one)
        else:
            splits.setdefault(one.entry.split, []).append(one)
    if missing:
        raise UsageError(_lost(missing))
    if not splits:
        raise UsageError("images: no image is there; docs/datasets.md shows the layouts")
    shards = []
    for split, samples in sorted(splits.items()):
        stem = f"{name}-{split}" if split else name
        cut = list(_cut(samples, shard_mb * 1e6, samples_per_shard))
        shards += [ShardPlan(f"{stem}-{i:06}.tar", split, part) for i, part in enumerate(cut)]
    return Plan(name, shards, class_names)


def _cut(
    samples: Sequence[Planned], most_bytes: float, most: int | None
) -> Iterator[list[Planned]]:
    part: list[Planned] = []
    held = 0
    for one in samples:
        if part and (held + one.tar_bytes > most_bytes or len(part) == most):
            yield part
            part, held = [], 0
        part.append(one)
        held += one.tar_bytes
    yield part


def _looked_at(
    reader: Reader, class_names: Sequence[str], told: Callable[[int], None]
) -> Iterator[Planned | Entry]:
    """Samples as planned; entries whose image is not there as they are."""
    keys: dict[str, Entry] = {}
    entries = reader.entries()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="look") as pool:
        while some := list(islice(entries, STRIDE)):
            for entry, seen in zip(some, pool.map(_seen, some), strict=True):
                _check(entry, keys)
                yield entry if seen is None else Planned(entry, *seen, _json(entry, class_names))
            told(len(some))


def _seen(entry: Entry) -> tuple[int, str] | None:
    """Size and stamp of an image, None where there is none."""
    if isinstance(entry.image, bytes):
        return len(entry.image), hashlib.sha256(entry.image).hexdigest()
    try:
        found = os.stat(entry.image)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{entry.image} cannot be read: {error.strerror}") from None
    return found.st_size, str(found.st_mtime_ns)


def _json(entry: Entry, class_names: Sequence[str]) -> bytes:
    held: dict[str, Any] = dict(entry.details)
    if entry.label is not None:
        held["label"] = entry.label
        if entry.label < len(class_names):
            held["class_name"] = class_names[entry.label]
    for name in ("split", "boxes", "identity", "attributes"):
        if value := getattr(entry, name):
            held[name] = value
    return json.dumps(held, sort_keys=True, ensure_ascii=False).encode()


def _check(entry: Entry, keys: dict[str, Entry]) -> None:
    """Refuse what would not be read back as it is."""
    where = entry.origin or (entry.image if isinstance(entry.image, str) else entry.key)
    if entry.extension not in IMAGE_EXTENSIONS:
        known = ", ".join(IMAGE_EXTENSIONS)
        raise UsageError(f"{where}: {entry.extension!r} is no extension of images ({known})")
    try:
        raw = f"{entry.key}.{entry.extension}".encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where!r}: the name is no UTF-8 ({one_line(error)})") from None
    same = split_name(printable(raw)) == (entry.key, entry.extension)
    if not same or entry.key.startswith("__") or entry.key.startswith("/"):
        raise UsageError(f"{where}: {entry.key!r} cannot be a key; rename the file")
    if entry.split:
        _check_word(f"{where}: split", entry.split)
    other = keys.setdefault(entry.key, entry)
    if other is not entry:
        raise UsageError(
            f"{where}: the key {entry.key!r} is that of {other.origin or other.image!r} too; "
            "rename one of the files"
        )


def _check_word(what: str, word: str) -> None:
    if not _WORD.fullmatch(word):
        raise UsageError(f"{what}={word!r}: use letters, digits, '.', '-' and '_', as in a file")


def _lost(missing: Sequence[Entry]) -> str:
    first = missing[0]
    named = f", which {first.origin} names" if first.origin else ""
    more = f" ({len(missing):,} images are missing in all)" if len(missing) > 1 else ""
    return f"{first.image} does not exist{named}{more}"
