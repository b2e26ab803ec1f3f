"""Handing a job to a machine or a cluster: the words, and what every back end can do.

A back end is one file here, a frozen dataclass: it says what it would send, sends it, and looks at
what became of it. `lifecycle` is what users ask for, whatever the back end.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import jinja2

from pipeline.identity import fingerprint

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of ours, its command line, its settings, composed and checked; `metadata`, such as the
    revision of the code, travels with it."""

    name: str
    overrides: Sequence[str]
    settings: Mapping[str, Any]
    metadata: Mapping[str, str]

    @property
    def id(self) -> str:
        """The same for the same settings and code, a Kubernetes name."""
        same = [self.name, self.overrides, self.settings, self.metadata]
        return f"{self.name}-{fingerprint(same)[:12]}"

    def command(self, python: str = "python") -> list[str]:
        """What is run."""
        return [python, "-m", f"jobs.{self.name}", *self.overrides]


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a submission is. `phase`: pending, running, succeeded, failed, stopped, or scheduled,
    which needs no waiting for; `code`: its process's exit status; `message`: the back end's own."""

    phase: str
    code: int | None = None
    message: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.phase not in ("pending", "running")

    @property
    def exit_status(self) -> int:
        """As a shell has it: 0 unless it failed or was stopped, 128 + n for signal n."""
        if self.phase not in ("failed", "stopped"):
            return 0
        code = self.code or 1
        return code if 0 < code < 256 else 128 + abs(code) % 128


class Backend(Protocol):
    """A way to run jobs elsewhere, or later. Methods raise UsageError for what cannot work as it is
    asked for, RunError for what the other side refuses or fails to do."""

    remote: ClassVar[bool]
    """Whether jobs run where this machine's files are not seen."""
    standing: ClassVar[bool]
    """Whether what is submitted is an order to be replaced, known by its job, not its content."""

    def additions(self, settings: Mapping[str, Any]) -> list[str]:
        """Overrides that a job of these settings needs there, beside those given."""
        ...

    def preview(self, job: Job, id: str) -> str:
        """The request or manifest, as it would be sent."""
        ...

    def check(self, job: Job, say: Say) -> None:
        """Refuse what cannot work there, and say what is odd."""
        ...

    def start(self, job: Job, id: str) -> None:
        """Send it."""
        ...

    def look(self, id: str) -> State | None:
        """What became of it; None where nobody has submitted it."""
        ...

    def log(self, id: str) -> str:
        """What it has printed so far."""
        ...

    def stop(self, id: str) -> None:
        """Ask it to end; `look` says when it has."""
        ...


def cluster_of(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How workers are to be placed, of a job that has any: jobs.aggregate calls otherwise what its
    images are clustered by."""
    found = settings.get("cluster")
    return found if isinstance(found, Mapping) else None


def rendered(template: str, **values: Any) -> str:
    """A template of this folder, filled in. Filters: `json` (which YAML reads), `sh` (quoted)."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"json": json.dumps, "sh": lambda text: shlex.quote(str(text))}
    return environment.get_template(template).render(**values)
