"""Shard patterns to shards: braces, globs, fsspec URLs."""

import glob
import re

import fsspec

from pipeline import UsageError

_BRACES = re.compile(r"\{([^{}]*)\}")


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


def matches(path: str) -> list[str]:
    """Files that a path or glob names. Raises UsageError where a glob names none."""
    if not glob.has_magic(path):
        return [path]
    fs, pattern = fsspec.core.url_to_fs(path)
    found = sorted(fs.glob(pattern))
    if not found:
        raise UsageError(f"dataset.shards: nothing matches {path}")
    local = "file" in fs.protocol
    return [str(f) if local else fs.unstrip_protocol(f) for f in found]
