"""Upload offline W&B runs of a run directory, each once, and say which stands on which.

W&B itself marks what it has uploaded, with a file <run>.wandb.synced. That an aggregation stands on
an evaluation's rows W&B can only be told online, so it is told here.
"""

import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from pipeline import RunError, UsageError
from pipeline.rows import Storage
from pipeline.tracking import charts, records
from pipeline.tracking.records import Record

logger = logging.getLogger(__name__)

MARK = ".synced"


def sync(settings: Mapping[str, Any]) -> tuple[int, int]:
    """How many runs were uploaded now, and how many before.

    Raises UsageError where there are none or nobody is logged in, RunError where W&B did not take
    all of them.
    """
    place = Storage(settings["out"])
    runs = [name for name in place.names("wandb") if name.startswith("offline-run-")]
    waiting = [name for name in runs if not _marked(place, name)]
    if not runs:
        raise UsageError(
            f"out={place.out}: no offline run there; jobs.evaluate and jobs.aggregate write them "
            "with tracking=offline"
        )
    if not waiting:
        return 0, len(runs)
    if not wandb.api.api_key:
        raise UsageError("there is no W&B key: run wandb login, or set WANDB_API_KEY")
    if settings["entity"]:
        charts.publish(settings["entity"])
    said = _upload(place, waiting, settings)
    left = [name for name in waiting if not _marked(place, name)]
    if left:
        raise RunError(
            f"{len(left)} of {len(waiting)} runs were not uploaded: {said}; run the same command "
            "again"
        )
    link(records.read(place), settings)
    return len(waiting), len(runs) - len(waiting)


def link(made: Sequence[Record], settings: Mapping[str, Any]) -> None:
    """Make the rows of evaluations inputs of the aggregations that stand on them. That this fails
    is no failure of the upload."""
    scope = "/".join(filter(None, (settings["entity"], settings["project"])))
    try:
        api = wandb.Api()
        for record in made:
            for name in record.uses:
                api.run(f"{scope}/{record.id}").use_artifact(api.artifact(f"{scope}/{name}:latest"))
    except Exception as error:
        logger.warning("W&B: uploaded, but without lineage: %s", error)


def _marked(place: Storage, run: str) -> bool:
    return any(name.endswith(MARK) for name in place.names("wandb", run))


def _upload(place: Storage, waiting: Sequence[str], settings: Mapping[str, Any]) -> str:
    """Run W&B's own command; returns the last line that it said. Runs in a store are fetched, and
    their marks put beside them."""
    command = [sys.executable, "-m", "wandb", "sync", "--project", settings["project"]]
    command += ["--entity", settings["entity"]] if settings["entity"] else []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(place.path("wandb") if place.is_local else folder)
        if not place.is_local:
            for name in waiting:
                place.fs.get(f"{place.path('wandb', name)}/", f"{root / name}/", recursive=True)
        paths = [str(root / name) for name in waiting]
        done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False)
        if not place.is_local:
            for mark in root.glob(f"*/*{MARK}"):
                to = place.path("wandb", mark.parent.name, mark.name)
                place.fs.pipe_file(to, mark.read_bytes())
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    return lines[-1].removeprefix("wandb: ") if lines else f"exit status {done.returncode}"
