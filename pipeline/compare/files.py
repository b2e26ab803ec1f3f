"""What a comparison leaves in a run directory: drift.parquet, drift.csv, drift.md."""

from collections.abc import Sequence

import pyarrow as pa

from pipeline.compare.agreement import Agreement, table
from pipeline.rows import Storage, parts


def save(run: Storage, drift: pa.Table, found: Sequence[Agreement]) -> None:
    """Every pair of rows in Parquet; a line for each game, method and objective in the others."""
    lines = table(found)
    run.write(run.path("drift.parquet"), parts.to_bytes(drift))
    run.write(run.path("drift.csv"), lines.csv().encode())
    run.write(run.path("drift.md"), lines.markdown().encode())
