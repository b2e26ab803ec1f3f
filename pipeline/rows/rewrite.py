"""Parts replaced by others so that no row is ever lost, whenever a process dies.

    <out>/staging/<kind>/rewrite.json    {"old": [parts], "new": [part]}, while one is under way

The plan is written, then the new part, in one piece, then the old parts are removed, then the plan.
Whoever finds a plan knows by the new part what is left to do. In between readers see the same rows
twice, and count them once. Only under the run directory's lock.
"""

import json
import posixpath
import uuid
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from pipeline import UsageError
from pipeline.rows import parts
from pipeline.rows.directory import RunDir, safe
from pipeline.rows.storage import retried

PLAN = "rewrite.json"


def discard(run: RunDir, drop: Callable[[pa.Table], np.ndarray]) -> int:
    """Remove rows from parts; returns how many.

    `drop` is given, part by part, a table of the kind's identity, `status` and, where the kind has
    it, `content`, null in older parts; it returns a bool for each row. Several threads call it.
    """
    recover(run)
    optional = [name for name in ("content",) if name in run.kind.schema.names]
    columns = [*run.kind.identity, "status", *optional]
    found = run.each(columns, lambda name, table: (name, np.asarray(drop(table), bool)))
    for name, drop_R in found:
        if drop_R.any():
            without(run, name, drop_R)
    return sum(int(drop_R.sum()) for _, drop_R in found)


def without(run: RunDir, name: str, drop_R: np.ndarray) -> None:
    """Remove rows of one part; one that loses all of them goes."""
    if drop_R.all():
        replace(run, [name], None)
    else:
        table = parts.read(run.fs, run.path(run.kind.folder, name))
        replace(run, [name], table.filter(pa.array(~drop_R)))


def replace(run: RunDir, old: Sequence[str], rows: pa.Table | None) -> None:
    """Put one part of these rows, which keeps their metadata, or none in the place of others."""
    new = ""
    if rows is not None:  # a name that no other part ever has
        dataset = str(rows["dataset"][0]) if "dataset" in rows.column_names else "rows"
        new = f"{safe(dataset)}-{uuid.uuid4().hex[:24]}.parquet"
    plan = {"old": list(old), "new": [new] if new else []}
    content = json.dumps(plan, indent=1).encode()
    retried(lambda: run.write(_plan(run), content))
    if rows is not None:
        part = parts.to_bytes(rows)
        retried(lambda: run.write(run.path(run.kind.folder, new), part))
    recover(run)


def recover(run: RunDir) -> None:
    """Finish a rewrite whose new part is there, forget one whose is not; else do nothing."""
    path = _plan(run)
    try:
        content: bytes = retried(lambda: run.fs.cat_file(path))  # type: ignore[assignment]
    except FileNotFoundError:
        return
    old, new = _parsed(path, content)
    present = set(run.names(run.kind.folder))
    if present.issuperset(new):
        for name in old:
            run.remove(run.path(run.kind.folder, name))
    run.remove(path)


def _plan(run: RunDir) -> str:
    return run.path("staging", run.kind.folder, PLAN)


def _parsed(path: str, content: bytes) -> tuple[list[str], list[str]]:
    try:
        plan = json.loads(content)
        old, new = plan["old"], plan["new"]
        if not all(posixpath.basename(name) == name for name in [*old, *new]):
            raise ValueError("a name is no plain one")
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is no plan of a rewrite ({error}); remove it") from None
    return old, new
