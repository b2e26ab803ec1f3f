"""A process of its own on this machine."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.lock import started
from pipeline.submission import Job, Say, State, rendered
from pipeline.submission.folder import Folder


@dataclass(frozen=True, kw_only=True)
class Local:
    """Runs a job below `folder` while this machine is up."""

    folder: str

    remote: ClassVar[bool] = False
    standing: ClassVar[bool] = False

    def additions(self, settings: Mapping[str, Any]) -> list[str]:
        """None."""
        return []

    def preview(self, job: Job, id: str) -> str:
        """The script."""
        return rendered(
            "job.sh.j2",
            id=id,
            directives=[],
            setup=[],
            requeue=False,
            cwd=Path.cwd(),
            command=shlex.join(job.command(sys.executable)),
            folder=Folder(self.folder, id).path,
        )

    def check(self, job: Job, say: Say) -> None:
        """The job's own checks are all that there is."""

    def start(self, job: Job, id: str) -> None:
        """In a session of its own, so that it outlives the terminal."""
        folder = Folder(self.folder, id)
        folder.create({"job.sh": self.preview(job, id)})
        with (folder.path / "log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", str(folder.path / "job.sh")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        folder.write("process", f"{process.pid} {started(process.pid)}")

    def look(self, id: str) -> State | None:
        """By its exit status, or its process."""
        folder = Folder(self.folder, id)
        alive = self._process(folder) is not None  # looked for first: it may end meanwhile
        if ended := folder.ended():
            return ended
        if alive:
            return State(phase="running")
        if folder.read("job.sh") is None:
            return None
        return State(phase="failed", message="its process is gone without an exit status")

    def log(self, id: str) -> str:
        """What it printed."""
        return Folder(self.folder, id).read("log") or ""

    def stop(self, id: str) -> None:
        """SIGTERM, which lets it finish what is under way."""
        if (pid := self._process(Folder(self.folder, id))) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _process(self, folder: Folder) -> int | None:
        """Its script's process, while that lives."""
        pid, _, since = (folder.read("process") or "0 none").partition(" ")
        return int(pid) if started(int(pid)) == since else None
