"""Shard patterns to shards: braces, globs, fsspec URLs, names; storage's complaints in one line."""

import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import fsspec

from pipeline import UsageError
from pipeline.redaction import redacted

MOST_SHARDS = 1_000_000
"""More than this in one pattern is a slip of the pen."""
_BRACES = re.compile(r"\{([^{}]*)\}")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}
_EXTRAS |= {"http": "http", "https": "http"}


def braces(pattern: str) -> list[str]:
    """Expand `{a,b}` and `{000..127}` (zero-padded as written), all of them, left to right.

    Raises UsageError for more than MOST_SHARDS.
    """
    done: list[str] = []
    waiting = [pattern]
    while waiting:
        current = waiting.pop()
        match = _BRACES.search(current)
        if not match:
            done.append(current)
            continue
        head, tail = current[: match.start()], current[match.end() :]
        items = _items(match[1], pattern)
        if len(done) + len(waiting) + len(items) > MOST_SHARDS:
            raise UsageError(f"dataset.shards: {pattern} stands for over {MOST_SHARDS:,} shards")
        waiting += [head + item + tail for item in reversed(items)]
    return done


def _items(body: str, pattern: str) -> list[str]:
    bounds = re.fullmatch(r"([0-9]{1,18})\.\.([0-9]{1,18})", body)
    if not bounds:
        return body.split(",")
    first, last = int(bounds[1]), int(bounds[2])
    if not 0 <= last - first < MOST_SHARDS:
        raise UsageError(
            f"dataset.shards: {{{body}}} in {pattern} must count up, to at most {MOST_SHARDS:,}"
        )
    return [str(i).zfill(len(bounds[1])) for i in range(first, last + 1)]


def matches(path: str) -> list[str]:
    """Files that a path or glob names. Raises UsageError where a glob names none."""
    if not glob.has_magic(path):
        return [path]
    with told("dataset.shards", path):
        fs, pattern = fsspec.core.url_to_fs(path)
        found = sorted(str(name) for name in fs.glob(pattern))
    if not found:
        raise UsageError(f"dataset.shards: nothing matches {path}")
    return found if "file" in fs.protocol else [fs.unstrip_protocol(name) for name in found]


def local_path(url: str) -> str | None:
    """The path that a URL names on a mounted file system, None for a store."""
    if "::" not in url and (url.startswith(("file://", "local://")) or "://" not in url):
        return os.path.abspath(os.path.expanduser(url.removeprefix("file://").split("://")[-1]))
    return None


def shard_names(urls: Sequence[str]) -> list[str]:
    """What each shard is called in rows: its file name, so that a data set may move, without a
    signature; shards of one file name get as much of their folders as tells them apart. Raises
    UsageError for a shard that is named twice."""
    places: dict[str, str] = {}
    alike: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        place = local_path(url) or _unsigned(url)
        if place in places:
            raise UsageError(f"dataset.shards: {url} is named twice; name every shard once")
        places[place] = url
        alike[place.rpartition("/")[2]].append(place)
    names: dict[str, str] = {}
    for same in alike.values():
        parts = [place.split("/") for place in same]
        depth = 1
        while len({tuple(part[-depth:]) for part in parts}) < len(same):
            depth += 1
        for place, part in zip(same, parts, strict=True):
            names[place] = "/".join(part[-depth:])
    return [names[place] for place in places]


def _unsigned(url: str) -> str:
    """A URL without user and password, and without a query that holds a signature."""
    place, _, query = url.partition("?")
    plain = redacted(f"?{query}") == f"?{query}"
    return redacted(url if plain else place)


@contextmanager
def told(option: str, url: str) -> Iterator[None]:
    """Turn whatever a storage raises into a UsageError of one line.

    Every Exception counts, since stores' clients have errors of their own.
    """
    try:
        yield
    except UsageError:
        raise
    except FileNotFoundError as error:
        # fsspec's HTTP client calls a server that it cannot reach "not found", the cause beneath
        known = error.__cause__ if isinstance(error.__cause__, Exception) else error
        why = f" ({_line(known)})" if local_path(url) is None else ""
        raise UsageError(f"{option}: {url} does not exist{why}; check the path") from None
    except ImportError as error:
        extra = _EXTRAS.get(url.split("://")[0].rpartition("::")[2])
        fix = f"pip install 'pixel-quorum[{extra}]'" if extra else _line(error)
        raise UsageError(f"{option}: {url} needs a package that is missing: {fix}") from None
    except (IsADirectoryError, PermissionError, NotADirectoryError) as error:
        reason = error.strerror or _line(error)
        raise UsageError(f"{option}: {url} cannot be read: {reason}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{option}: {url} is no UTF-8 text; save it as UTF-8") from None
    except Exception as error:
        if "Protocol not known" in str(error):
            raise UsageError(
                f"{option}: {url} has a protocol that is not known; use a path, s3://, gs://, "
                "hf:// or https://"
            ) from None
        raise UsageError(
            f"{option}: {url} cannot be read: {_line(error)}; check address, network and "
            "credentials"
        ) from None


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:300] if text else type(error).__name__
