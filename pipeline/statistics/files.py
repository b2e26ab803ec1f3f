"""Statistics as files: one table as Parquet and CSV."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.rows import Storage


def save(run: Storage, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write <out>/<name>.parquet and .csv."""
    table = pa.Table.from_pylist(completed(rows))
    buffer, text = io.BytesIO(), io.BytesIO()
    pq.write_table(table, buffer)
    pyarrow.csv.write_csv(table, text)
    run.write(run.path(f"{name}.parquet"), buffer.getvalue())
    run.write(run.path(f"{name}.csv"), text.getvalue())


def completed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with every name that one of them has; what a row lacks is None."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]


def keep(run: Storage, name: str, table: pa.Table | None) -> None:
    """Write <out>/<name>.parquet, or remove that of another time where there is nothing to keep."""
    path = run.path(f"{name}.parquet")
    if table is None or not len(table):
        run.remove(path)
        return
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    run.write(path, buffer.getvalue())
