"""Merge the small parts of a run directory into large ones; the rows stay the same, each once.

Whenever it is stopped, no row is lost, and the same command does the rest.

    python -m jobs.compact out=runs/mine
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline import UsageError
from pipeline.config import entry_point
from pipeline.config.schema import LockConfig
from pipeline.lock import Lock
from pipeline.rows import RunDir, Storage, rewrite, writer
from pipeline.rows.compact import Size, compact, extent
from pipeline.studies import studies


@dataclass
class CompactConfig:
    """Settings: see conf/compact.yaml."""

    out: str = MISSING
    rows: int = 50_000
    lock: LockConfig = field(default_factory=LockConfig)


@entry_point("compact", CompactConfig)
def main(settings: dict[str, Any]) -> None:
    """A line for each kind of rows."""
    if settings["rows"] < 2:
        raise UsageError(f"rows={settings['rows']}: give at least 2")
    runs = [RunDir(settings["out"], study.kind) for study in studies()]
    if not any(run.sealed() or writer.writers(run) for run in runs):
        raise UsageError(f"out={settings['out']}: no rows there; give out=<a run's directory>")
    with Lock(Storage(settings["out"]), wait_s=settings["lock"]["wait_s"]) as lock:
        for run in runs:
            rewrite.recover(run)
            writer.recover(run)
            if run.sealed():
                parts, rows = counted(run)
                for _ in compact(run, Size(settings["rows"])):
                    lock.check()
                left, kept = counted(run)
                print(
                    f"{run.kind.folder}: {parts} parts are {left} now; {kept:,} rows, "
                    f"{rows - kept:,} that lay there twice removed"
                )


def counted(run: RunDir) -> tuple[int, int]:
    """Parts and rows in them."""
    extents = run.look(lambda path: extent(run, path))
    return len(extents), sum(e.rows for e in extents)


if __name__ == "__main__":
    main()
