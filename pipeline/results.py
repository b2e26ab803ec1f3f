"""Rows as durable Parquet: one staged file an image, sealed into parts that readers see.

    <out>/staging/<kind>/<hash of image and its rows>.parquet   by a worker when an image is done
    <out>/<kind>/<dataset>-<hash of contents>.parquet           sealed from those by the driver

A file is written under a dot name, fsynced, renamed, its folder fsynced (object stores: one put),
so it is whole or absent. Names derive from contents, so a late or repeated write changes nothing. A
crash between sealing and removing staged files leaves rows in both; the next run drops the staged.
"""

import hashlib
import io
import json
import os
import posixpath
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from pipeline import UsageError

Identity = tuple[Any, ...]
"""What makes a row one and the same: (shard, key, fingerprint, and the kind's `part`)."""


@dataclass(frozen=True)
class Kind:
    """A kind of rows: the folder of its parts, its columns, the one that tells apart the rows of
    one image and fingerprint, and the job that makes them."""

    folder: str
    schema: pa.Schema
    part: str
    job: str

    @property
    def identity(self) -> list[str]:
        """Columns of an Identity."""
        return ["shard", "key", "fingerprint", self.part]


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("dataset", "shard", "key", "model", "players")),
        *((name, pa.string()) for name in ("masking", "curve_masking", "method", "objective")),
        ("fingerprint", pa.string()),
        *((name, pa.int32()) for name in ("label", "prediction", "target", "n_players")),
        ("order", pa.list_(pa.uint16())),
        ("scores", pa.list_(pa.float32())),
        ("interaction", pa.list_(pa.float32())),
        ("pairs", pa.list_(pa.float32())),
        ("details", pa.string()),
        ("fraction", pa.list_(pa.float32())),
        ("probability", pa.list_(pa.float32())),
        ("log_odds", pa.list_(pa.float32())),
        ("top1", pa.list_(pa.bool_())),
        ("auc_probability", pa.float64()),
        ("auc_top1", pa.float64()),
        ("flip", pa.int32()),
        ("evaluations", pa.int64()),
        ("seconds", pa.float64()),
        ("status", pa.string()),
        ("error", pa.string()),
    ]
)
CURVES = Kind("results", SCHEMA, "objective", "jobs.evaluate")
"""Orders and their insertion and deletion curves."""

METADATA_KEY = b"pixel_quorum"


@dataclass(frozen=True)
class Run:
    """A run directory, a local path or an fsspec URL, and the kind of rows wanted of it."""

    out: str
    kind: Kind = CURVES

    @cached_property
    def _place(self) -> tuple[fsspec.AbstractFileSystem, str]:
        return fsspec.core.url_to_fs(self.out)

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The file system that holds the run."""
        return self._place[0]

    def path(self, *parts: str) -> str:
        """A path below the run directory, as `fs` knows it."""
        return posixpath.join(self._place[1], *parts)

    @property
    def is_local(self) -> bool:
        """Whether the run lies on a mounted file system."""
        return "file" in (
            self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,)
        )

    def stage(self, rows: Sequence[dict[str, Any]], metadata: dict[str, Any]) -> str:
        """Write one image's rows durably; returns the staged file's name."""
        name = f"{_digest(self._identities(rows))}.parquet"
        self.write(self._staging(name), encode(rows, metadata, self.kind.schema))
        return name

    def staged(self) -> list[str]:
        """Names of staged files."""
        return _names(self.fs, self._staging())

    def sealed(self) -> list[str]:
        """Names of parts."""
        return _names(self.fs, self.path(self.kind.folder))

    def seal(self, names: Sequence[str], committed: set[Identity]) -> None:
        """Make staged files parts, one for each way they were made; drop rows that parts hold."""
        made: dict[bytes, list[pa.Table]] = {}
        for name in names:
            table = self.read_file(self._staging(name))
            identities = self._identities(table.select(self.kind.identity).to_pylist())
            fresh = table.filter(pa.array([i not in committed for i in identities]))
            committed.update(identities)
            if len(fresh):
                made.setdefault(table.schema.metadata[METADATA_KEY], []).append(fresh)
        for tables in made.values():
            table = pa.concat_tables(tables)
            digest = _digest(self._identities(table.select(self.kind.identity).to_pylist()))
            dataset = _safe(table["dataset"][0].as_py())
            self.write(self._part(f"{dataset}-{digest}.parquet"), _to_bytes(table))
        for name in names:
            self.fs.rm_file(self._staging(name))

    def committed(self) -> set[Identity]:
        """Identities of all rows in parts."""
        found: set[Identity] = set()
        for name in self.sealed():
            table = self.read_file(self._part(name), columns=self.kind.identity)
            columns = [table[column].to_pylist() for column in self.kind.identity]
            found.update(zip(*columns, strict=True))
        return found

    def read_file(self, path: str, columns: list[str] | None = None) -> pa.Table:
        """One Parquet file; raises UsageError that names a damaged one."""
        try:
            with self.fs.open(path, "rb") as file:
                return pq.read_table(file, columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise UsageError(
                f"{path} is no readable Parquet file ({error}); remove it and run again"
            ) from None

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """All rows of all parts. Raises UsageError where there are none."""
        names = self.sealed()
        if not names:
            folder, job = self.kind.folder, self.kind.job
            raise UsageError(f"out={self.out}: no {folder} there; run {job} first")
        tables = [self.read_file(self._part(n), columns) for n in names]
        return pa.concat_tables([t.replace_schema_metadata(None) for t in tables])

    def metadata(self) -> list[dict[str, Any]]:
        """What the parts say of how they were made, one entry a part."""
        entries = []
        for name in self.sealed():
            with self.fs.open(self._part(name), "rb") as file:
                entries.append(json.loads(pq.read_schema(file).metadata[METADATA_KEY]))
        return entries

    def write(self, path: str, content: bytes) -> None:
        """Write a whole file or nothing, durably."""
        if not self.is_local:
            self.fs.pipe_file(path, content)
            return
        folder, name = os.path.split(path)
        os.makedirs(folder, exist_ok=True)
        temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}")
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

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
            self.write(path, json.dumps(known | merged, indent=1).encode())

    def _part(self, name: str) -> str:
        return self.path(self.kind.folder, name)

    def _staging(self, *name: str) -> str:
        return self.path("staging", self.kind.folder, *name)

    def _identities(self, rows: Iterable[dict[str, Any]]) -> list[Identity]:
        return [tuple(row[column] for column in self.kind.identity) for row in rows]


def _digest(identities: Iterable[Identity]) -> str:
    return hashlib.sha256(json.dumps(sorted(identities)).encode()).hexdigest()[:24]


def encode(
    rows: Sequence[dict[str, Any]], metadata: dict[str, Any], schema: pa.Schema = SCHEMA
) -> bytes:
    """Rows as a Parquet file with its metadata; columns that a row lacks are null."""
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    schema = schema.with_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
    return _to_bytes(pa.Table.from_pydict(columns, schema=schema))


def _to_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _names(fs: fsspec.AbstractFileSystem, folder: str) -> list[str]:
    fs.invalidate_cache()
    if not fs.exists(folder):
        return []
    names = [posixpath.basename(path) for path in fs.ls(folder, detail=False)]
    return sorted(n for n in names if n.endswith(".parquet") and not n.startswith("."))


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
