"""A run directory: rows staged by workers, sealed into parts by the driver, read by everybody."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import UsageError
from pipeline.rows import parts
from pipeline.rows.schema import Identity, Kind
from pipeline.rows.storage import Storage, retried

logger = logging.getLogger(__name__)

BY_IMAGE = [("shard", "ascending"), ("key", "ascending")]


@dataclass(frozen=True)
class RunDir(Storage):
    """A run directory, a local path or an fsspec URL, and the kind of rows wanted of it."""

    kind: Kind

    def stage(self, rows: Sequence[dict[str, Any]], metadata: dict[str, Any]) -> str:
        """Write one image's rows durably; returns the staged file's name."""
        identities = (tuple(row[column] for column in self.kind.identity) for row in rows)
        name = f"{_digest(identities)}.parquet"
        content = parts.encode(rows, metadata, self.kind.schema)
        retried(lambda: self.write(self._staging(name), content))
        return name

    def staged(self) -> list[str]:
        """Names of staged files."""
        return _parquet(self.names("staging", self.kind.folder))

    def sealed(self) -> list[str]:
        """Names of parts."""
        return _parquet(self.names(self.kind.folder))

    def seal(self, names: Sequence[str], committed: set[Identity]) -> None:
        """Make staged files parts, one for each way they were made; drop rows that parts hold.

        Where it raises, everything staged is still there, and doing it again changes nothing.
        """
        retried(lambda: self._make_parts(names, committed))
        retried(lambda: self._discard(names))

    def committed(self) -> set[Identity]:
        """Identities of all rows in parts."""
        found: set[Identity] = set()
        for name in self.sealed():
            found.update(
                self._identities(parts.read(self.fs, self._part(name), self.kind.identity))
            )
        return found

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """All rows of all parts, each identity once. Raises UsageError where there are none.

        Columns of the kind that a part lacks, since it is older, are null there.
        """
        names = self.sealed()
        if not names:
            folder, job = self.kind.folder, self.kind.job
            raise UsageError(f"out={self.out}: no {folder} there; run {job} first")
        wanted = columns and list(dict.fromkeys([*columns, *self.kind.identity]))
        known = [f for f in self.kind.schema if wanted is None or f.name in wanted]
        tables = [(self._part(n), parts.read(self.fs, self._part(n), wanted)) for n in names]
        every = parts.fitted(tables, pa.schema(known))
        if columns and (lacking := [c for c in columns if c not in every.column_names]):
            raise UsageError(f"out={self.out}: no row has the columns {', '.join(lacking)}")
        rows = parts.distinct(every, self.kind.identity)
        if repeated := len(every) - len(rows):
            logger.warning("out=%s: %d rows occur twice; each counts once", self.out, repeated)
        return rows.select(columns) if columns else rows

    def read_rows(self, part: str, **where: Any) -> list[dict[str, Any]]:
        """Whole rows of one part whose columns equal `where`, such as shard= and key=."""
        path = self._part(part)
        table = parts.read(self.fs, path, where=where)
        return parts.fitted([(path, table)], self.kind.schema).to_pylist()

    def orders(self, order_fingerprints: set[str]) -> dict[tuple[str, str, str, Any], str]:
        """The part that holds each order that could be used again:
        (shard, key, order_fingerprint, facet) -> name of the part, of rows that are ok."""
        place = ["shard", "key", "order_fingerprint", self.kind.facet]
        found: dict[tuple[str, str, str, Any], str] = {}
        for name in self.sealed():
            table = parts.read(self.fs, self._part(name), [*place, "status"])
            if "order_fingerprint" not in table.column_names:
                continue
            columns = (table[column].to_pylist() for column in [*place, "status"])
            for shard, key, order, facet, status in zip(*columns, strict=True):
                if status == "ok" and order in order_fingerprints:
                    found.setdefault((shard, key, order, facet), name)
        return found

    def metadata(self) -> list[dict[str, Any]]:
        """What the parts say of how they were made, one entry a part."""
        return [parts.metadata(self.fs, self._part(name)) for name in self.sealed()]

    def check_shards(self, sizes: dict[str, int]) -> None:
        """Remember each shard's size; raises UsageError where one has changed since."""
        path = self.path("shards.json")
        known = json.loads(self.fs.cat_file(path)) if self.fs.exists(path) else {}
        for shard, size in sizes.items():
            if known.get(shard, size) != size:
                raise UsageError(
                    f"shard {shard} has changed ({known[shard]} bytes when {self.out} was begun, "
                    f"{size} now): its rows would mix two versions; use a new out="
                )
        if merged := {k: v for k, v in sizes.items() if k not in known}:
            content = json.dumps(known | merged, indent=1).encode()
            retried(lambda: self.write(path, content))

    def _make_parts(self, names: Sequence[str], committed: set[Identity]) -> None:
        made: dict[bytes, list[tuple[str, pa.Table]]] = {}
        new: set[Identity] = set()
        for name in names:
            path = self._staging(name)
            table = parts.read(self.fs, path)
            fresh = [i not in committed and i not in new for i in self._identities(table)]
            new.update(self._identities(table))
            if any(fresh):
                of_kind = made.setdefault(table.schema.metadata[parts.METADATA_KEY], [])
                of_kind.append((path, table.filter(pa.array(fresh))))
        for metadata, tables in made.items():
            table = parts.fitted(tables, pa.schema([])).sort_by(BY_IMAGE)
            table = table.replace_schema_metadata({parts.METADATA_KEY: metadata})
            name = f"{_safe(table['dataset'][0].as_py())}-{_digest(self._identities(table))}"
            self.write(self._part(f"{name}.parquet"), parts.to_bytes(table))
        committed |= new

    def _discard(self, names: Sequence[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):  # gone already where this is another try
                self.fs.rm_file(self._staging(name))

    def _part(self, name: str) -> str:
        return self.path(self.kind.folder, name)

    def _staging(self, name: str) -> str:
        return self.path("staging", self.kind.folder, name)

    def _identities(self, table: pa.Table) -> Iterator[Identity]:
        return zip(*(table[column].to_pylist() for column in self.kind.identity), strict=True)


def _digest(identities: Iterable[Identity]) -> str:
    return hashlib.sha256(json.dumps(sorted(identities)).encode()).hexdigest()[:24]


def _parquet(names: list[str]) -> list[str]:
    return [n for n in names if n.endswith(".parquet") and not n.startswith(".")]


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
