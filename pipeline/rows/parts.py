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
import pyarrow.dataset
import pyarrow.parquet as pq

from pipeline import UsageError

METADATA_KEY = b"pixel_quorum"
ROWS_PER_GROUP = 128
"""Few enough that reading one image's rows of a part reads little else."""


def encode(rows: Sequence[dict[str, Any]], metadata: dict[str, Any], schema: pa.Schema) -> bytes:
    """Rows as a Parquet file with its metadata; columns that a row lacks are null."""
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    schema = schema.with_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
    return to_bytes(pa.Table.from_pydict(columns, schema=schema))


def to_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=ROWS_PER_GROUP)
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
    try:
        with fs.open(path, "rb") as file:
            schema = pq.read_schema(file)
            _ours(path, schema)
            if not where.keys() <= set(schema.names):
                return schema.empty_table()
            return pq.read_table(
                file,
                columns=None if columns is None else [c for c in columns if c in schema.names],
                filters=[(column, "==", value) for column, value in where.items()] or None,
            )
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def metadata(fs: fsspec.AbstractFileSystem, path: str) -> dict[str, Any]:
    """What a file says of how it was made. Raises as `read` does."""
    try:
        with fs.open(path, "rb") as file:
            return json.loads(_ours(path, pq.read_schema(file)))
    except (pa.ArrowException, OSError, json.JSONDecodeError) as error:
        raise _damaged(path, error) from None


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


def distinct(table: pa.Table, identity: list[str]) -> pa.Table:
    """The first of all rows that share an identity."""
    numbered = table.select(identity).append_column("row", pa.array(np.arange(len(table))))
    first = numbered.group_by(identity).aggregate([("row", "min")])["row_min"].to_numpy()
    if len(first) == len(table):
        return table
    kept = np.zeros(len(table), dtype=bool)
    kept[first] = True
    return table.filter(pa.array(kept))


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
