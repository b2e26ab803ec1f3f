"""A run directory explains itself: <out>/config.yaml and <out>/command.txt, for people to read."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig

from pipeline.redaction import redacted
from pipeline.rows import Storage


def record(known: Sequence[Mapping[str, Any]], again: bool = False) -> None:
    """Write the resolved settings, a YAML document for each cell of a sweep, and, unless it is done
    `again`, append the command: when, which job, what was given."""
    hydra = HydraConfig.get()
    run = Storage(known[0]["out"])
    content = yaml.safe_dump_all([redacted(settings) for settings in known], sort_keys=False)
    run.write(run.path("config.yaml"), content.encode())
    if again:
        return
    path = run.path("command.txt")
    told: Any = run.fs.cat_file(path) if run.fs.exists(path) else b""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    given = [f"jobs.{hydra.job.config_name}", *redacted(list(hydra.overrides.task))]
    line = f"{now} {shlex.join(given)}\n"
    run.write(path, told + line.encode())
