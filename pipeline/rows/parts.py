"""One Parquet file of rows: written with its metadata, read and fitted to others with one-line
errors that name the file."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import UsageError
from pipeline.redaction import redacted

METADATA_KEY = b"pixel_quorum"
ROWS_PER_GROUP = 128
"""Few enough that reading one image's rows of a part reads little else."""


def to_table(
    rows: Sequence[dict[str, Any]], metadata: Mapping[str, Any], schema: pa.Schema
) -> pa.Table:
    """Rows with their metadata; columns that a row lacks are null. Errors may quote URLs, and go
    without their credentials."""
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    if "error" in columns:
        columns["error"] = redacted(columns["error"])
    schema = schema.with_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
    return pa.Table.from_pydict(columns, schema=schema)


def to_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        row_group_size=ROWS_PER_GROUP,
        write_page_checksum=True,
    )
    return buffer.getvalue()


def read(
    fs: fsspec.AbstractFileSystem,
    path: str,
    columns: Sequence[str] | None = None,
    where: Mapping[str, Any] = MappingProxyType({}),
) -> pa.Table:
    """Rows whose columns equal `where`, and of `columns` those that the file has.

    Raises UsageError for a file that is damaged or somebody else's; OSError where a store fails.
    """
    with _reading(path), fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        schema = parquet.schema_arrow
        _ours(path, schema)
        if not where.keys() <= set(schema.names):
            return schema.empty_table()
        known = None if columns is None else [c for c in columns if c in schema.names]
        if where:
            wanted = [(column, "==", value) for column, value in where.items()]
            table = pq.read_table(file, columns=known, filters=wanted)
        else:
            table = parquet.read(known)
        table.validate(full=True)
        return table


def batches(
    fs: fsspec.AbstractFileSystem, path: str, rows: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Every byte of a file, or of those of `columns` that it has, so many rows at a time. Raises as
    `read` does."""
    with _reading(path), fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        _ours(path, parquet.schema_arrow)
        names = parquet.schema_arrow.names
        known = None if columns is None else [c for c in columns if c in names]
        for batch in parquet.iter_batches(rows, columns=known):
            batch.validate(full=True)
            yield batch


def footer(fs: fsspec.AbstractFileSystem, path: str) -> pq.ParquetFile:
    """A file's own summary, to be asked for `.metadata` and `.schema_arrow`. Raises as `read`."""
    with _reading(path), fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        _ours(path, parquet.schema_arrow)
        return parquet


def metadata(fs: fsspec.AbstractFileSystem, path: str) -> dict[str, Any]:
    """What a file says of how it was made. Raises as `read` does."""
    with _reading(path), fs.open(path, "rb") as file:
        said = json.loads(_ours(path, pq.read_schema(file)))
        if not isinstance(said, dict):
            raise pa.ArrowInvalid("its metadata is no mapping")
        return said


def fitted(tables: Sequence[tuple[str, pa.Table]], schema: pa.Schema) -> pa.Table:
    """Tables of (file, rows) as one that has every column of `schema` and of theirs, widened where
    they differ, null where a file lacks it. Raises UsageError that names a file that cannot fit."""
    merged, fits = schema, []
    for path, table in tables:
        with _fitting(path):
            both = [merged, table.schema.remove_metadata()]
            merged = pa.unify_schemas(both, promote_options="permissive")
    for path, table in tables:
        with _fitting(path):
            both = [merged.empty_table(), table.replace_schema_metadata(None)]
            fits.append(pa.concat_tables(both, promote_options="permissive"))
    return pa.concat_tables([merged.empty_table(), *fits])


def cast(path: str, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Just the columns of `schema`, null where the file lacks them. Raises as `fitted` does."""
    with _fitting(path):
        return fitted([(path, table)], schema).select(schema.names).cast(schema)


def distinct(table: pa.Table, identity: Sequence[str]) -> pa.Table:
    """The first of all rows that share an identity, or the first that is ok."""
    kept = firsts(table, identity)
    return table if kept.all() else table.filter(pa.array(kept))


def firsts(table: pa.Table, identity: Sequence[str]) -> np.ndarray:
    """Whether each row is the one that counts of those that share its identity: an ok one wins
    over failed ones, then the first."""
    code = np.zeros(len(table), np.int64)
    for column in identity:
        values, place = coded(table[column])
        code = code * (len(values) + 1) + place
    failed = np.asarray(pc.fill_null(pc.not_equal(table["status"], "ok"), True))
    order = np.lexsort((failed, code))  # stable
    kept = np.zeros(len(table), bool)
    kept[order[np.flatnonzero(np.diff(code[order], prepend=-1))]] = True
    return kept


def coded(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Distinct values and the place of each row's among them, which ends with that of null."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = column.dictionary
    return values, np.asarray(pc.fill_null(column.indices, len(values)))


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: bad UTF-8, bad JSON
        if isinstance(error, UsageError):
            raise
        raise _damaged(path, error) from None


@contextmanager
def _fitting(path: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise UsageError(
            f"{path} does not fit the other parts ({_line(error)}); move it away or make it anew"
        ) from None


def _ours(path: str, schema: pa.Schema) -> bytes:
    found = (schema.metadata or {}).get(METADATA_KEY)
    if found is None:
        raise UsageError(f"{path} holds no rows of Pixel Quorum (no metadata); move it elsewhere")
    return found


def _damaged(path: str, error: Exception) -> Exception:
    """A store's own failure, which has an errno, passes; what Arrow says is about the file."""
    if isinstance(error, OSError) and error.errno:
        return error
    return UsageError(
        f"{path} is no readable Parquet file ({_line(error)}); remove it and run again"
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
