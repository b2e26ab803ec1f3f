"""A run directory: what its parts hold, read by everybody."""

import logging
import posixpath
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import UsageError
from pipeline.rows import parts
from pipeline.rows.schema import Kind
from pipeline.rows.storage import Result, Storage

logger = logging.getLogger(__name__)

THREADS = 16
"""Parts read at once: an object store answers slowly, but many."""
RELISTINGS = 5
BY_IMAGE = [("shard", "ascending"), ("key", "ascending")]


@dataclass(frozen=True)
class RunDir(Storage):
    """A run directory, a local path or an fsspec URL, and the kind of rows wanted of it."""

    kind: Kind

    def sealed(self) -> list[str]:
        """Names of parts."""
        return _parquet(self.names(self.kind.folder))

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """All rows of all parts, each identity once. Raises UsageError where there are none.

        Columns of the kind that a part lacks, since it is older, are null there.
        """
        wanted = columns and list(dict.fromkeys([*columns, *self.kind.identity, "status"]))
        known = [f for f in self.kind.schema if wanted is None or f.name in wanted]
        tables = self.look(lambda path: (path, parts.read(self.fs, path, wanted)))
        if not tables:
            folder, job = self.kind.folder, self.kind.job
            raise UsageError(f"out={self.out}: no {folder} there; run {job} first")
        every = parts.fitted(tables, pa.schema(known))
        if columns and (lacking := [c for c in columns if c not in every.column_names]):
            raise UsageError(f"out={self.out}: no row has the columns {', '.join(lacking)}")
        rows = parts.distinct(every, self.kind.identity)
        if repeated := len(every) - len(rows):
            logger.warning("out=%s: %d rows occur twice; each counts once", self.out, repeated)
        return rows.select(columns) if columns else rows

    def each(
        self,
        columns: Sequence[str],
        look: Callable[[str, pa.Table], Result],
        names: Sequence[str] | None = None,
    ) -> list[Result]:
        """What `look` makes of each part, given its name and just these columns of the kind, null
        where it is older; of all parts, or those of `names`."""
        schema = pa.schema([self.kind.schema.field(name) for name in columns])

        def of_part(path: str) -> Result:
            table = parts.read(self.fs, path, columns)
            return look(posixpath.basename(path), parts.cast(path, table, schema))

        return self.look(of_part, names)

    def batches(self, part: str, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Just these columns of a part, null where it is older, so many rows at a time."""
        path = self._part(part)
        schema = pa.schema([self.kind.schema.field(name) for name in columns])
        for batch in parts.batches(self.fs, path, rows, columns):
            yield parts.cast(path, pa.Table.from_batches([batch]), schema)

    def read_rows(self, part: str, **where: Any) -> list[dict[str, Any]]:
        """Whole rows of one part whose columns equal `where`, such as shard= and key=."""
        path = self._part(part)
        table = parts.read(self.fs, path, where=where)
        return parts.fitted([(path, table)], self.kind.schema).to_pylist()

    def metadata(self) -> list[dict[str, Any]]:
        """What the parts say of how they were made, one entry a part."""
        return self.look(lambda path: parts.metadata(self.fs, path))

    def look(
        self, look: Callable[[str], Result], names: Sequence[str] | None = None
    ) -> list[Result]:
        """What `look` makes of each part's path, some at a time, in the order of names. One that
        a rewrite has removed meanwhile is in others, so all are listed anew."""
        attempts = RELISTINGS
        while True:
            attempts -= 1
            paths = [self._part(name) for name in (self.sealed() if names is None else names)]
            with ThreadPoolExecutor(THREADS) as pool:
                try:
                    return list(pool.map(look, paths))
                except FileNotFoundError:
                    if names is not None or not attempts:
                        raise

    def _part(self, name: str) -> str:
        return self.path(self.kind.folder, name)


def _parquet(names: list[str]) -> list[str]:
    return [n for n in names if n.endswith(".parquet") and not n.startswith(".")]


def safe(name: str) -> str:
    """A data set's name as the beginning of a file's."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
