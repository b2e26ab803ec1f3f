"""What lies where in an uncompressed WebDataset tar, and its bytes."""

import logging
import tarfile
from pathlib import PurePosixPath
from typing import Any

import fsspec

from pipeline import UsageError
from pipeline.data import SampleRef

logger = logging.getLogger(__name__)

GAP = 4096
"""Bytes between two members, headers and padding, that cost less than another request."""
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def shard_name(url: str) -> str:
    """File name of a shard; rows carry it, so that a data set may move."""
    return PurePosixPath(url).name


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


def read_members(url: str, places: list[tuple[int, int]]) -> list[bytes]:
    """Members of a tar by (offset, size): just their bytes, neighbours in one request."""
    fs, path = fsspec.core.url_to_fs(url)
    spans: list[list[int]] = []
    for offset, size in sorted(places):
        if spans and offset - spans[-1][1] <= GAP:
            spans[-1][1] = offset + size
        else:
            spans.append([offset, offset + size])
    fetched = {start: _fetch(fs, path, start, end) for start, end in spans}

    def member(offset: int, size: int) -> bytes:
        start = max(s for s in fetched if s <= offset)
        return fetched[start][offset - start : offset - start + size]

    return [member(*place) for place in places]


def _fetch(fs: fsspec.AbstractFileSystem, path: str, start: int, end: int) -> bytes:
    """A range of a file; a server that ignores ranges, or a file cut short, raises ValueError."""
    if start == end:  # no store answers an empty range
        return b""
    content: Any = fs.cat_file(path, start=start, end=end)
    if len(content) != end - start:
        raise ValueError(f"{path}: asked for {end - start} bytes at {start}, got {len(content)}")
    return content


def _refuse_compressed(url: str, file) -> None:
    file.seek(0)
    magic = file.read(6)
    for prefix, kind in _COMPRESSED.items():
        if magic.startswith(prefix):
            raise UsageError(
                f"{url} is {kind}-compressed: members cannot be read by offset; unpack it to a "
                "plain tar (images are compressed already)"
            )
