"""Slurm: one exclusive node, told to drain in time and queued anew until the job is done.

sbatch sends SIGTERM `notice_s` before the end; the job finishes what is under way (cluster.grace_s)
and the script puts it back into the queue, where the same command does the rest.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline import RunError, UsageError
from pipeline.submission import Job, Say, State, cluster_of, rendered
from pipeline.submission.folder import Folder

PENDING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "SPECIAL_EXIT")


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """Submits with sbatch from a machine that shares `folder` and this one with the nodes."""

    folder: str
    partition: str | None
    account: str | None
    gpus: int
    time: str
    notice_s: int
    setup: Sequence[str]
    options: Sequence[str]

    remote: ClassVar[bool] = False
    standing: ClassVar[bool] = False

    def additions(self, settings: Mapping[str, Any]) -> list[str]:
        """None: a node is a machine with an embedded Ray."""
        return []

    def preview(self, job: Job, id: str) -> str:
        """The script for sbatch."""
        folder = Folder(self.folder, id).path
        given = {
            "job-name": id,
            "nodes": 1,
            "ntasks": 1,
            "mem": 0,  # all that the node has
            "gres": f"gpu:{self.gpus}" if self.gpus else None,
            "time": self.time,
            "signal": f"B:TERM@{self.notice_s}",
            "open-mode": "append",
            "output": folder / "log",
            "partition": self.partition,
            "account": self.account,
        }
        named = [f"--{name}={value}" for name, value in given.items() if value is not None]
        return rendered(
            "job.sh.j2",
            id=id,
            directives=["--exclusive", "--requeue", *named, *self.options],
            setup=self.setup,
            requeue=True,
            cwd=Path.cwd(),
            command=shlex.join(job.command(sys.executable)),
            folder=folder,
        )

    def check(self, job: Job, say: Say) -> None:
        """Whether the job drains in time, and what Slurm itself says of the script."""
        grace = (cluster_of(job.settings) or {}).get("grace_s", 0)
        if grace >= self.notice_s:
            raise UsageError(
                f"cluster.grace_s={grace:g}: the job must finish what is under way within "
                f"submit.notice_s={self.notice_s}; give less, or a longer notice"
            )
        said = _slurm("sbatch", "--test-only", stdin=self.preview(job, job.id))
        if said:
            say(said)

    def start(self, job: Job, id: str) -> None:
        """By sbatch."""
        folder = Folder(self.folder, id)
        folder.create({"job.sh": self.preview(job, id)})
        try:
            number = _slurm("sbatch", "--parsable", str(folder.path / "job.sh"))
        except RunError:
            shutil.rmtree(folder.path)
            raise
        folder.write("number", number.partition(";")[0])

    def look(self, id: str) -> State | None:
        """By its exit status, or its place in the queue."""
        folder = Folder(self.folder, id)
        number = folder.read("number")
        if number is None:
            return None
        phase = _queued(number)  # asked for first: it may end meanwhile
        if ended := folder.ended():
            return ended
        if phase is None:
            lost = (
                f"Slurm's job {number} is gone without an exit status: cancelled, or its node died"
            )
            return State(phase="failed", message=lost)
        return State(phase="pending" if phase in PENDING else "running")

    def log(self, id: str) -> str:
        """What it printed, all of its times."""
        return Folder(self.folder, id).read("log") or ""

    def stop(self, id: str) -> None:
        """By scancel: SIGTERM, and SIGKILL after Slurm's KillWait."""
        _slurm("scancel", (Folder(self.folder, id).read("number") or "").strip())


def _queued(number: str) -> str | None:
    """A job's state in the queue; None where it is not there any more."""
    try:
        found = _slurm("squeue", "--noheader", f"--jobs={number}", "--states=all", "--format=%T")
    except RunError as error:
        if "Invalid job id" in str(error):
            return None
        raise
    over = (
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "BOOT_FAIL",
    )
    return None if found.strip() in ("", *over) else found.strip()


def _slurm(*command: str, stdin: str | None = None) -> str:
    """What one of Slurm's commands says."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        raise UsageError(
            f"submit=slurm: there is no {command[0]} here; submit from a login node of the cluster"
        ) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise RunError(f"{command[0]} refuses: {said}")
    return (done.stdout + done.stderr).strip()
