"""Where every sample of a shard lies: found once, kept in a cache file, a few arrays in memory."""

import hashlib
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa

from pipeline import UsageError
from pipeline.data import SampleRef
from pipeline.data.labels import parse_label
from pipeline.data.ranges import Ranges, ranges
from pipeline.data.tars import Break, Member, split_name, walk
from pipeline.data.urls import local_path, told

logger = logging.getLogger(__name__)

FORMAT = 2
"""Part of every cache file's name: raise it when a change alters what is found in a tar."""
BESIDE = ".index"
"""Ending of the file beside a packed shard that says where its samples lie."""
LABEL_BYTES = 32
"""Longer members hold no class index."""
_COLUMNS = pa.schema(
    {
        "key": pa.string(),
        "error": pa.string(),
        "label": pa.int32(),
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

    @property
    def labels(self) -> np.ndarray:
        """Class indices that the members `cls` state, int64 (n,); -1 where there is none."""
        return self.samples.column(2).fill_null(-1).to_numpy().astype(np.int64)

    def __len__(self) -> int:
        return self.samples.num_rows

    def ref(self, place: int) -> SampleRef:
        """The sample at a place, 0 to n - 1."""
        key, error, _, kinds, offsets, sizes = (column[place].as_py() for column in self.samples)
        members = {
            self.extensions[kind]: (offset, size)
            for kind, offset, size in zip(kinds, offsets, sizes, strict=True)
        }
        return SampleRef(shard=self.shard, url=self.url, key=key, members=members, error=error)

    def refs(self, places: np.ndarray) -> Iterable[SampleRef]:
        """The samples at many places."""
        columns = [column.to_pylist() for column in self.samples.take(pa.array(places, pa.int64()))]
        for key, error, _, kinds, offsets, sizes in zip(*columns, strict=True):
            spans = zip(offsets, sizes, strict=True)
            members = dict(zip((self.extensions[kind] for kind in kinds), spans, strict=True))
            yield SampleRef(shard=self.shard, url=self.url, key=key, members=members, error=error)


def load(url: str, shard: str) -> ShardIndex:
    """The index of one shard, from the cache or beside it where the file has not changed since.

    Raises UsageError where the shard cannot be read, is no plain tar or holds a member twice.
    """
    with told("dataset.shards", url), ranges(url) as file:
        place = _cache_place(url, file.stamp) if file.stamp else None
        content = _recall(place, url, file.stamp) if place else None
        if content is None:
            content = _beside(url, file) or found(url, file)
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


def found(url: str, file: Ranges) -> Content:
    """What lies in a tar. Raises UsageError where it is none, or holds a member twice."""
    scan = _Scan(url, file)
    problems: list[str] = [] if file.size else ["empty: a file of 0 bytes"]
    beside: dict[str, str] = {}  # samples next to a break -> what it was
    last, broken = None, None
    for met in walk(url, file):
        if isinstance(met, Break):
            problems += [met.problem] if met.problem else []
            broken = "cut off" if met.cut else "damaged"
            if last is not None:
                beside[last] = broken
            continue
        last = scan.place(met) or last
        if broken and last is not None:
            beside[last], broken = broken, None
    samples = scan.samples
    errors = _lacking(samples, beside) | scan.errors
    words: dict[str, int] = {}
    kinds = [[words.setdefault(e, len(words)) for e in held] for held in samples.values()]
    spans = [list(held.values()) for held in samples.values()]
    columns = [
        list(samples),
        [errors.get(key) for key in samples],
        [scan.labels.get(key) for key in samples],
        kinds,
        [[offset for offset, _ in span] for span in spans],
        [[size for _, size in span] for span in spans],
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, _COLUMNS, strict=True)]
    meta = {"url": _home(url), "stamp": file.stamp, "problems": problems, "extensions": [*words]}
    return pa.record_batch(arrays, schema=_COLUMNS), meta


class _Scan:
    """Samples of a tar as its members are met: their members, errors and labels by key."""

    def __init__(self, url: str, file: Ranges):
        self.url, self.file = url, file
        self.samples: dict[str, dict[str, tuple[int, int]]] = {}
        self.errors: dict[str, str] = {}
        self.labels: dict[str, int] = {}

    def place(self, member: Member) -> str | None:
        """Put a member to its sample; the sample's key, None where the member is of none."""
        key, extension = split_name(member.name)
        if extension is None or key.startswith("__"):
            return None
        members = self.samples.setdefault(key, {})
        if extension in members:
            raise UsageError(
                f"{self.url}: member {member.name!r} appears twice (at bytes "
                f"{members[extension][0]} and {member.offset}); pack it anew"
            )
        members[extension] = (member.offset, member.size)
        if member.flaw:
            self.errors[key] = member.flaw
        elif extension == "cls" and member.size <= LABEL_BYTES:
            with suppress(ValueError):  # whoever reads the sample is told
                self.labels[key] = parse_label(self.file.at(member.offset, member.size), "cls")
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
        content = loaded(place.read_bytes())
    except OSError:
        return None
    ours = content and (content[1].get("url"), content[1].get("stamp")) == (_home(url), stamp)
    return content if ours else None


def _beside(url: str, file: Ranges) -> Content | None:
    """What the packer has put beside a shard, None where the shard is newer, or of another size."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
        if fs.modified(path + BESIDE) < fs.modified(path):
            return None
        content = loaded(fs.cat_file(path + BESIDE))
    except Exception:  # stores' clients have errors of their own; some tell no times
        return None
    if content is None or content[1].get("size") != file.size:
        return None
    batch, meta = content
    return batch, meta | {"url": _home(url), "stamp": file.stamp}


def dumped(content: Content) -> bytes:
    """An index as the bytes of a file that knows whether it is whole."""
    batch, meta = content
    sink = pa.BufferOutputStream()
    schema = _COLUMNS.with_metadata({"index": json.dumps(meta, sort_keys=True)})
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(batch.replace_schema_metadata(schema.metadata))
    body = sink.getvalue().to_pybytes()
    return _digest(body) + body


def loaded(raw: bytes) -> Content | None:
    """What `dumped` has written, None for other bytes."""
    content = memoryview(raw)
    try:
        if len(content) < 16 or _digest(content[16:]) != content[:16]:
            return None
        with pa.ipc.open_stream(content[16:]) as stream:
            meta = json.loads((stream.schema.metadata or {})[b"index"])
            batch = stream.read_next_batch()
    except (ValueError, KeyError, TypeError, StopIteration, pa.ArrowException):
        return None
    return (batch, meta) if batch.schema.equals(_COLUMNS) and isinstance(meta, dict) else None


def _keep(place: Path, content: Content) -> None:
    """Write a cache file whole or not at all; where that fails the next run is slower."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=".")
    except OSError as error:
        logger.debug("no index cache at %s: %s", place.parent, error)
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(dumped(content))
        os.replace(temporary, place)
    except OSError as error:
        logger.debug("no index cache at %s: %s", place.parent, error)
        os.unlink(temporary)
