"""Where every sample of a shard lies: found once, kept in a cache file, a few arrays in memory."""

import hashlib
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline import UsageError
from pipeline.data import SampleRef
from pipeline.data.ranges import Ranges, ranges
from pipeline.data.tars import Break, Member, split_name, walk
from pipeline.data.urls import local_path, told

logger = logging.getLogger(__name__)

FORMAT = 1
"""Part of every cache file's name: raise it when a change alters what is found in a tar."""
_COLUMNS = pa.schema(
    {
        "key": pa.string(),
        "error": pa.string(),
        "extensions": pa.list_(pa.int32()),
        "offsets": pa.list_(pa.int64()),
        "sizes": pa.list_(pa.int64()),
    }
)


@dataclass(frozen=True)
class ShardIndex:
    """The samples of one shard, in tar order.

    `shard`: its name in rows; `stamp` changes when the file does (empty where the store does not
    tell); `keys`: n strings; `problems`: what is wrong with the tar, one line each.
    """

    shard: str
    url: str
    stamp: str
    problems: tuple[str, ...]
    samples: pa.RecordBatch = field(repr=False)
    extensions: tuple[str, ...] = field(repr=False)

    @property
    def keys(self) -> pa.StringArray:
        """The keys of the n samples."""
        return self.samples.column(0)

    def __len__(self) -> int:
        return self.samples.num_rows

    def ref(self, place: int) -> SampleRef:
        """The sample at a place, 0 to n - 1."""
        key, error, kinds, offsets, sizes = (column[place].as_py() for column in self.samples)
        members = {
            self.extensions[kind]: (offset, size)
            for kind, offset, size in zip(kinds, offsets, sizes, strict=True)
        }
        return SampleRef(shard=self.shard, url=self.url, key=key, members=members, error=error)

    def refs(self, places: np.ndarray) -> Iterable[SampleRef]:
        """The samples at many places."""
        columns = [column.to_pylist() for column in self.samples.take(pa.array(places, pa.int64()))]
        for key, error, kinds, offsets, sizes in zip(*columns, strict=True):
            spans = zip(offsets, sizes, strict=True)
            members = dict(zip((self.extensions[kind] for kind in kinds), spans, strict=True))
            yield SampleRef(shard=self.shard, url=self.url, key=key, members=members, error=error)


def load(url: str, shard: str) -> ShardIndex:
    """The index of one shard, from the cache where the file has not changed since.

    Raises UsageError where the shard cannot be read, is no plain tar or holds a member twice.
    """
    with told("dataset.shards", url), ranges(url) as file:
        place = _cache_place(url, file.stamp) if file.stamp else None
        content = _recall(place, url, file.stamp) if place else None
        if content is None:
            content = _found(url, file)
            if place:
                _keep(place, content)
        batch, meta = content
    for problem in meta["problems"]:
        logger.warning("%s: %s", url, problem)
    return ShardIndex(
        shard, url, file.stamp or "", tuple(meta["problems"]), batch, tuple(meta["extensions"])
    )


Content = tuple[pa.RecordBatch, dict]
"""A row a sample; and url, stamp, problems and extensions, the words that `extensions` count."""


def _found(url: str, file: Ranges) -> Content:
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    errors: dict[str, str] = {}
    problems: list[str] = [] if file.size else ["empty: a file of 0 bytes"]
    beside: dict[str, str] = {}  # samples next to a break -> what it was
    last, broken = None, None
    for found in walk(url, file):
        if isinstance(found, Break):
            problems += [found.problem] if found.problem else []
            broken = "cut off" if found.cut else "damaged"
            if last is not None:
                beside[last] = broken
            continue
        last = _place(url, found, samples, errors) or last
        if broken and last is not None:
            beside[last], broken = broken, None
    errors = _lacking(samples, beside) | errors
    words: dict[str, int] = {}
    kinds = [[words.setdefault(e, len(words)) for e in held] for held in samples.values()]
    spans = [list(held.values()) for held in samples.values()]
    columns = [
        list(samples),
        [errors.get(key) for key in samples],
        kinds,
        [[offset for offset, _ in span] for span in spans],
        [[size for _, size in span] for span in spans],
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, _COLUMNS, strict=True)]
    meta = {"url": _home(url), "stamp": file.stamp, "problems": problems, "extensions": [*words]}
    return pa.record_batch(arrays, schema=_COLUMNS), meta


def _place(
    url: str,
    member: Member,
    samples: dict[str, dict[str, tuple[int, int]]],
    errors: dict[str, str],
) -> str | None:
    """Put a member to its sample; the sample's key, None where the member is of none."""
    key, extension = split_name(member.name)
    if extension is None or key.startswith("__"):
        return None
    members = samples.setdefault(key, {})
    if extension in members:
        raise UsageError(
            f"{url}: member {member.name!r} appears twice (at bytes {members[extension][0]} and "
            f"{member.offset}); pack it anew"
        )
    members[extension] = (member.offset, member.size)
    if member.flaw:
        errors[key] = member.flaw
    return key


def _lacking(samples: dict[str, dict], beside: dict[str, str]) -> dict[str, str]:
    """Samples beside a break that lack what most others hold: it may be lost, not absent."""
    if not beside:
        return {}
    held = Counter(e for key, members in samples.items() if key not in beside for e in members)
    usual = [e for e, count in held.items() if 2 * count > len(samples) - len(beside)]
    return {
        key: f"shard is {broken} inside this sample: it has no {', '.join(missing)}"
        for key, broken in beside.items()
        if (missing := [e for e in usual if e not in samples[key]])
    }


def cache_folder() -> Path:
    """Where indexes are kept: $PIXEL_QUORUM_CACHE, else the user's cache folder."""
    if named := os.environ.get("PIXEL_QUORUM_CACHE"):
        return Path(named) / "index"
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(home) / "pixel-quorum" / "index"


def _home(url: str) -> str:
    return local_path(url) or url


def _cache_place(url: str, stamp: str) -> Path:
    named = json.dumps([FORMAT, _home(url), stamp]).encode()
    return cache_folder() / f"{hashlib.blake2b(named, digest_size=16).hexdigest()}.arrow"


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _recall(place: Path, url: str, stamp: str | None) -> Content | None:
    """What a cache file holds, None where it is missing, damaged or another shard's."""
    try:
        content = memoryview(place.read_bytes())
        if len(content) < 16 or _digest(content[16:]) != content[:16]:
            return None
        with pa.ipc.open_stream(content[16:]) as stream:
            meta = json.loads((stream.schema.metadata or {})[b"index"])
            batch = stream.read_next_batch()
        ours = batch.schema.equals(_COLUMNS) and (meta["url"], meta["stamp"]) == (_home(url), stamp)
        return (batch, meta) if ours else None
    except (OSError, ValueError, KeyError, TypeError, StopIteration, pa.ArrowException):
        return None


def _keep(place: Path, content: Content) -> None:
    """Write a cache file whole or not at all; where that fails the next run is slower."""
    batch, meta = content
    sink = pa.BufferOutputStream()
    schema = _COLUMNS.with_metadata({"index": json.dumps(meta)})
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(batch.replace_schema_metadata(schema.metadata))
    body = sink.getvalue().to_pybytes()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=".")
    except OSError as error:
        logger.debug("no index cache at %s: %s", place.parent, error)
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_digest(body) + body)
        os.replace(temporary, place)
    except OSError as error:
        logger.debug("no index cache at %s: %s", place.parent, error)
        os.unlink(temporary)
