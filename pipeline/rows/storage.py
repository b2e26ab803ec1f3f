"""Durable files below one folder, local or in an object store: whole or absent, never half.

Locally a file is written under a dot name, fsynced, renamed, its folder fsynced; in an object
store it is one put.
"""

import logging
import os
import posixpath
import random
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import fsspec

from pipeline import UsageError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
_UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]{32}")
TRIES = 5
FIRST_PAUSE_S = 0.5
LASTING = (
    UsageError,
    FileExistsError,
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
"""Errors that another try will meet again."""


@dataclass(frozen=True)
class Storage:
    """A folder by its path or fsspec URL."""

    out: str

    @cached_property
    def _place(self) -> tuple[fsspec.AbstractFileSystem, str]:
        return fsspec.core.url_to_fs(self.out)

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The file system that holds the folder."""
        return self._place[0]

    @property
    def is_local(self) -> bool:
        """Whether the folder lies on a mounted file system."""
        protocol = self.fs.protocol
        return "file" in (protocol if isinstance(protocol, tuple) else (protocol,))

    def path(self, *parts: str) -> str:
        """A path below the folder, as `fs` knows it."""
        return posixpath.join(self._place[1], *parts)

    def names(self, *parts: str) -> list[str]:
        """Names in a folder below, sorted, less those of unfinished writes; none where there is
        no such folder."""
        return [name for name in self._listed(*parts) if not _UNFINISHED.fullmatch(name)]

    def unfinished(self, *parts: str) -> dict[str, str]:
        """Names that files have while they are written, or have kept since that was interrupted,
        and the names that they are to have."""
        found = [(name, _UNFINISHED.fullmatch(name)) for name in self._listed(*parts)]
        return {name: match[1] for name, match in found if match}

    def _listed(self, *parts: str) -> list[str]:
        folder = self.path(*parts)
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(path) for path in found)

    def write(self, path: str, content: bytes) -> None:
        """Write a whole file or nothing, durably."""
        if self.is_local:
            _durably(path, content, os.replace)
        else:
            self.fs.pipe_file(path, content)

    def create(self, path: str, content: bytes) -> None:
        """Write a file that nobody has written; of many at once, one succeeds.

        Raises FileExistsError for the others.
        """
        if self.is_local:
            _durably(path, content, os.link)  # which, unlike a renaming, does not replace
        else:
            self.fs.pipe_file(path, content, mode="create")

    def remove(self, path: str) -> None:
        """Remove a file, unless another, or an earlier try, already has."""
        with suppress(FileNotFoundError):
            retried(lambda: self.fs.rm_file(path))


def _durably(path: str, content: bytes, put: Callable[[str, str], None]) -> None:
    """Write beside a path and `put` it there, so that it is whole or absent."""
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def retried(action: Callable[[], Result]) -> Result:
    """Do it, up to TRIES times with growing pauses: a busy store or a network's hiccup passes.

    Every Exception counts, since stores' clients have errors of their own.
    """
    for attempt in range(TRIES - 1):
        try:
            return action()
        except LASTING:
            raise
        except Exception as error:
            pause = FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5)
            logger.warning("%s: %s; trying again in %.1f s", type(error).__name__, error, pause)
            time.sleep(pause)
    return action()
