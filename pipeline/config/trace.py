"""A run directory explains itself: <out>/config.yaml and <out>/command.txt, for people to read."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig

from pipeline.redaction import redacted
from pipeline.rows import Storage


def record(settings: Mapping[str, Any]) -> None:
    """Write the resolved settings, and append the command: when, which job, what was given."""
    hydra = HydraConfig.get()
    _write(settings, hydra.job.config_name or "", list(hydra.overrides.task))


def _write(settings: Mapping[str, Any], job: str, overrides: list[str]) -> None:
    run = Storage(settings["out"])
    content = yaml.safe_dump(redacted(settings), sort_keys=False)
    run.write(run.path("config.yaml"), content.encode())
    path = run.path("command.txt")
    told: Any = run.fs.cat_file(path) if run.fs.exists(path) else b""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = f"{now} {shlex.join([f'jobs.{job}', *redacted(overrides)])}\n"
    run.write(path, told + line.encode())
