"""How one process makes rows durable: groups of them, then parts, each announced before it is made.

    <out>/staging/<kind>/<writer>/000000.claim    the writer exists
    <out>/staging/<kind>/<writer>/000017.parquet  group 17: what was finished since group 16
    <out>/staging/<kind>/<writer>/000003.claim    create-only: groups 9 to 17 become parts, one for
                                                  each way that their rows were made
    <out>/<kind>/<dataset>-<writer>-000003.parquet

A claim is what a writer and whoever takes over from it contend for. Whoever has made claim n + 1
decides what becomes of all that came after claim n; the loser is fenced off, however long it was
silent. A claim says all there is to say of its parts, so doing it twice gives the same files.
"""

import json
import logging
import re
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline import RunError
from pipeline.rows import parts
from pipeline.rows.directory import BY_IMAGE, RunDir, safe
from pipeline.rows.storage import retried

logger = logging.getLogger(__name__)

CLAIMS_KEPT = 20
"""Claims that a folder holds, so that listing it stays cheap; whoever takes over needs those that
the writer has not told of, one or two."""
_FILE = re.compile(r"(\d{6})\.(claim|parquet)")
Identity = tuple[Any, ...]
"""What makes a row one and the same: its values of the kind's `identity`."""


class FencedError(RunError):
    """Another process has taken over what this writer had under way."""


class Writer:
    """Stages and seals rows that were made as `metadata` tells, unless they are said to differ."""

    def __init__(self, run: RunDir, name: str, metadata: Mapping[str, Any]):
        self.run, self.name, self.metadata = run, name, metadata
        self.sealed = 0  # number of the last claim
        self.rows = 0  # staged but not sealed
        self._groups = 0
        self._open: list[pa.Table] = []

    def stage(
        self, rows: Sequence[dict[str, Any]], metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Make rows durable as one more group, which was made as `metadata` tells. Where it raises,
        it can be done again."""
        made = self.metadata if metadata is None else metadata
        table = parts.to_table(rows, made, self.run.kind.schema)
        path = _path(self.run, self.name, self._groups + 1, "parquet")
        retried(partial(self.run.write, path, parts.to_bytes(table)))
        self._groups += 1
        self.rows += len(rows)
        self._open.append(table)

    def seal(self) -> None:
        """Make parts of all groups since the last. Raises FencedError where another has."""
        if not self._open:
            return
        first = self._groups - len(self._open) + 1
        tables = dict(enumerate(self._open, start=first))
        claim = _claim(tables, self.name, self.sealed + 1) | {"closed": False}
        _make_claim(self.run, self.name, self.sealed + 1, claim)
        self.sealed += 1
        for part, groups in claim["parts"].items():
            _make_part(self.run, part, [tables[n] for n in groups])
        for group in range(first, self._groups + 1):
            self.run.remove(_path(self.run, self.name, group, "parquet"))
        self._open, self.rows = [], 0
        if self.sealed > CLAIMS_KEPT:
            self.run.remove(_path(self.run, self.name, self.sealed - CLAIMS_KEPT, "claim"))

    def close(self) -> None:
        """Seal what is left and leave nothing behind."""
        self.seal()
        forget(self.run, self.name)


def register(run: RunDir) -> str:
    """Name of a new writer, known to whoever takes over from its driver."""
    name = uuid.uuid4().hex[:12]
    retried(lambda: run.create(_path(run, name, 0, "claim"), b"{}"))
    return name


def writers(run: RunDir) -> list[str]:
    """Names of writers that have not closed."""
    return [name for name in run.names("staging", run.kind.folder) if "." not in name]


def take_over(run: RunDir, name: str, since: int = 0) -> set[Identity]:
    """Seal what a writer has left and fence it off; the rows that it made durable after its claim
    number `since`, whether it had told of them or not. Doing it again changes nothing."""
    found: set[Identity] = set()
    while True:
        groups, claims = _listed(run, name)
        last = claims[-1] if claims else 0
        said = [_read_claim(run, name, n) for n in claims if n > since or n == last]
        for claim in said:
            if "parts" in claim:
                found |= _settled(run, name, claim, groups)
        if said and said[-1].get("closed"):
            return found
        done = max((claim["groups"][1] for claim in said if "groups" in claim), default=0)
        groups = [n for n in groups if n > done]
        closing: dict[str, Any] = {"closed": True}
        if groups:
            closing |= _claim({n: _read_group(run, name, n) for n in groups}, name, last + 1)
        try:
            _make_claim(run, name, last + 1, closing)
        except FencedError:  # the writer itself was quicker: look again
            continue


def forget(run: RunDir, name: str) -> None:
    """Remove a closed writer's folder; what it stages or seals afterwards comes to nothing."""
    folder = ("staging", run.kind.folder, name)
    for file in [*run.names(*folder), *run.unfinished(*folder)]:
        run.remove(run.path(*folder, file))
    if run.is_local:
        with suppress(OSError):
            run.fs.rmdir(run.path(*folder))


def recover(run: RunDir, living: Collection[str] = ()) -> int:
    """Seal what earlier runs, which are over, have left; the number of their writers, which are
    all but the `living`.

    Writers that were fenced off before have come to nothing since and are forgotten.
    """
    names = [name for name in writers(run) if name not in living]
    for name in names:
        _, claims = _listed(run, name)
        closed = bool(claims) and _read_claim(run, name, claims[-1]).get("closed")
        take_over(run, name)
        if closed:
            forget(run, name)
    return len(names)


def _settled(run: RunDir, name: str, claim: dict[str, Any], groups: list[int]) -> set[Identity]:
    """See to it that claimed parts are there and their groups are not; their rows. `groups`: those
    that the folder holds."""
    first, last = claim["groups"]
    left = [n for n in groups if first <= n <= last]
    # groups go once every part is there: whatever part is missing later was rewritten since
    whole = set(left).issuperset(n for mine in claim["parts"].values() for n in mine)
    found: set[Identity] = set()
    for part, mine in claim["parts"].items():
        path = run.path(run.kind.folder, part)
        there = run.fs.exists(path)
        if whole and not there:
            _make_part(run, part, [_read_group(run, name, n) for n in mine])
        if whole or there:
            table = parts.read(run.fs, path, run.kind.identity)
            columns = (table[c].to_pylist() for c in run.kind.identity)
            found |= set(zip(*columns, strict=True))
    for n in left:
        run.remove(_path(run, name, n, "parquet"))
    return found


def _claim(tables: Mapping[int, pa.Table], writer: str, number: int) -> dict[str, Any]:
    """What becomes of groups, given by number: a part for each way that they were made."""
    ways: dict[bytes, list[int]] = defaultdict(list)
    for n, table in tables.items():
        ways[table.schema.metadata[parts.METADATA_KEY]].append(n)
    named = {}
    for place, groups in enumerate(ways.values()):
        data = safe(str(tables[groups[0]]["dataset"][0]))
        further = f"-{place}" if place else ""
        named[f"{data}-{writer}-{number:06d}{further}.parquet"] = groups
    return {"groups": [min(tables), max(tables)], "parts": named}


def _make_claim(run: RunDir, name: str, number: int, claim: dict[str, Any]) -> None:
    """Raises FencedError where somebody else has made this one or removed the one before."""
    path, content = _path(run, name, number, "claim"), json.dumps(claim).encode()
    retried(run.fs.invalidate_cache)
    if not retried(lambda: run.fs.exists(_path(run, name, number - 1, "claim"))):
        raise FencedError(f"out={run.out}: writer {name} is over")
    try:
        retried(lambda: run.create(path, content))
    except FileExistsError:
        # a store that answered too late has written it: then it is ours
        if retried(lambda: run.fs.cat_file(path)) != content:
            raise FencedError(f"out={run.out}: writer {name} was taken over") from None


def _make_part(run: RunDir, part: str, tables: Sequence[pa.Table]) -> None:
    metadata = tables[0].schema.metadata
    table = parts.fitted([(part, table) for table in tables], pa.schema([])).sort_by(BY_IMAGE)
    content = parts.to_bytes(table.replace_schema_metadata(metadata))
    retried(lambda: run.write(run.path(run.kind.folder, part), content))


def _listed(run: RunDir, name: str) -> tuple[list[int], list[int]]:
    """Numbers of the groups and of the claims in a writer's folder."""
    found: dict[str, list[int]] = {"parquet": [], "claim": []}
    for file in retried(lambda: run.names("staging", run.kind.folder, name)):
        if match := _FILE.fullmatch(file):
            found[match[2]].append(int(match[1]))
    return found["parquet"], found["claim"]


def _read_claim(run: RunDir, name: str, number: int) -> dict[str, Any]:
    """What a claim says; nothing where its maker died of writing it, before it could act on it."""
    content: Any = retried(lambda: run.fs.cat_file(_path(run, name, number, "claim")))
    try:
        return json.loads(content)
    except ValueError:
        return {}


def _read_group(run: RunDir, name: str, number: int) -> pa.Table:
    return retried(lambda: parts.read(run.fs, _path(run, name, number, "parquet")))


def _path(run: RunDir, name: str, number: int, kind: str) -> str:
    return run.path("staging", run.kind.folder, name, f"{number:06d}.{kind}")


def staged(run: RunDir) -> Iterator[str]:
    """Paths of groups that are not sealed."""
    for name in writers(run):
        groups, _ = _listed(run, name)
        yield from (_path(run, name, number, "parquet") for number in groups)
