"""Byte ranges of a file, local or in a store, and patience with storage that fails in passing."""

import datetime
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import fsspec

from pipeline import UsageError
from pipeline.data import Unreadable
from pipeline.data.urls import local_path

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
PAUSES_S: tuple[float, ...] = (0.5, 1, 2, 4, 8, 15)
"""Seconds between tries, some 30 in all: a remount, a renamed file, a busy store come back."""
GAP = 4096
"""Bytes between two members, headers and padding, that cost less than another request."""
AHEAD = 1536
"""Bytes read at a header: it, the data of a small member, the next header."""
_LASTING = (PermissionError, IsADirectoryError, NotADirectoryError)
_STAMPS = ("ETag", "etag", "md5Hash", "LastModified", "Last-Modified", "last_modified", "mtime")
_STAMPS += ("blob_id", "xet_hash")  # of hf://


def patiently(action: Callable[[], Result], url: str) -> Result:
    """Do it, again after each of PAUSES_S where the storage fails.

    Raises Unreadable when it still fails; ValueError, which is said of the bytes, passes at once.
    """
    local = local_path(url) is not None
    for pause in (*PAUSES_S, None):
        try:
            return action()
        except ValueError:
            raise
        except Exception as error:  # stores' clients have errors of their own
            lasting = isinstance(error, _LASTING) or (
                isinstance(error, FileNotFoundError) and not local
            )
            if pause is None or lasting:
                said = " ".join(str(error).split()) or "no reason given"
                raise Unreadable(
                    f"{url} cannot be read now: {type(error).__name__}: {said}"
                ) from error
            logger.warning(
                "%s: %s: %s; trying again in %g s", url, type(error).__name__, error, pause
            )
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


class Ranges:
    """A file of `size` bytes read in pieces; `stamp` changes when the file does, None if unknown.

    `fetch(start, end)` reads bytes; `stride`: how much to read at once where all is read.
    """

    def __init__(
        self,
        size: int,
        stamp: str | None,
        fetch: Callable[[int, int], bytes],
        stride: int,
    ):
        self.size, self.stamp, self.stride = size, stamp, stride
        self._fetch = fetch
        self._start, self._held = 0, b""

    def at(self, place: int, length: int) -> bytes:
        """Up to `length` bytes from `place`, fewer at the file's end."""
        length = max(0, min(length, self.size - place))
        first = place - self._start
        if first < 0 or first + length > len(self._held):
            end = min(place + max(length, AHEAD), self.size)
            self._start, first = place, 0
            self._held = self._fetch(place, end) if end > place else b""
            if len(self._held) < length:
                raise ValueError(f"got {len(self._held)} of {length} bytes at byte {place}")
        return self._held[first : first + length]


@contextmanager
def ranges(url: str) -> Iterator[Ranges]:
    """Open a shard; raises whatever its storage does, UsageError where it is no regular file."""
    path = local_path(url)
    if path is None:
        fs, name = fsspec.core.url_to_fs(url)
        info = fs.info(name)
        if info.get("type") == "directory":
            raise IsADirectoryError(21, "Is a directory")
        if info.get("size") is None:
            raise UsageError(f"dataset.shards: {url} does not tell its size; copy it to a disk")

        def from_store(start: int, end: int) -> bytes:
            return patiently(lambda: read_range(fs, name, start, end), url)

        yield Ranges(info["size"], _stamp(info), from_store, 4 << 20)
        return
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a FIFO would block
        raise UsageError(f"dataset.shards: {url} is no regular file; name a tar")
    with open(path, "rb", buffering=0) as file:
        handle = file.fileno()
        found = os.fstat(handle)
        stamp = f"{found.st_size}-{found.st_mtime_ns}"
        yield Ranges(
            found.st_size, stamp, lambda start, end: os.pread(handle, end - start, start), 1 << 20
        )


def _stamp(info: dict[str, Any]) -> str | None:
    known = [info[name] for name in _STAMPS if info.get(name)]
    if not known and isinstance(info.get("created"), datetime.datetime):
        known = [info["created"].isoformat()]
    return "-".join(map(str, [info["size"], *known])) if known else None


def read_range(fs: fsspec.AbstractFileSystem, path: str, start: int, end: int) -> bytes:
    """A range of a file; a server that ignores ranges, or a file cut short, raises ValueError."""
    if start == end:  # no store answers an empty range
        return b""
    # hf:// reads through a file, which would fetch 5 MB ahead
    exact = {"cache_type": "none"} if fs.protocol == "hf" else {}
    content: Any = fs.cat_file(path, start=start, end=end, **exact)
    if len(content) != end - start:
        raise ValueError(f"{path}: asked for {end - start} bytes at {start}, got {len(content)}")
    return content


def read_members(url: str, places: list[tuple[int, int]]) -> list[bytes]:
    """Members of a tar by (offset, size): just their bytes, neighbours in one request.

    Raises Unreadable where the storage fails, ValueError where the file is shorter than it was.
    """
    spans: list[list[int]] = []
    for offset, size in sorted(places):
        if spans and offset - spans[-1][1] <= GAP:
            spans[-1][1] = max(spans[-1][1], offset + size)
        else:
            spans.append([offset, offset + size])

    def fetch(start: int, end: int) -> bytes:
        fs, path = fsspec.core.url_to_fs(url)
        return read_range(fs, path, start, end)

    fetched = {
        start: patiently(lambda start=start, end=end: fetch(start, end), url)
        for start, end in spans
    }

    def member(offset: int, size: int) -> bytes:
        start = max(s for s in fetched if s <= offset)
        return fetched[start][offset - start : offset - start + size]

    return [member(*place) for place in places]
