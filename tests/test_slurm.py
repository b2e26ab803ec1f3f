"""Slurm itself, brought up on this machine: munged, slurmctld and slurmd in a folder of the test.

Needs Debian's slurmctld, slurmd, slurm-client and munge, and root, as whom slurmd starts jobs.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import ROOT
from test_submit import backend

from pipeline import RunError, UsageError
from pipeline.submission import Job, State, lifecycle

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.getuid() != 0 or not all(shutil.which(name) for name in PROGRAMS),
        reason="needs root and apt-get install slurmctld slurmd slurm-client munge",
    ),
]

SETTINGS = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=3
SlurmUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=20
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def slurm():
    """A cluster of one node; ends with the processes that it has started."""
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # munge refuses folders that others may write
    (folder / "state").mkdir()
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o400)
    given = {"folder": folder, "host": socket.gethostname().split(".")[0], "ports": free_ports(2)}
    (folder / "slurm.conf").write_text(SETTINGS.format(cores=os.cpu_count(), **given))
    munge = {name: f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")}
    key, socket_ = f"--key-file={folder}/key", f"--socket={folder}/munge.sock"
    with pytest.MonkeyPatch.context() as patch, (folder / "said").open("wb") as said:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        started = []
        for command in (
            ["munged", "--foreground", "--force", key, socket_, *munge.values()],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            started.append(subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT))
            time.sleep(2)
        try:
            limit = time.monotonic() + 60
            while b"idle" not in subprocess.run(["sinfo"], capture_output=True).stdout:
                assert time.monotonic() < limit, (folder / "said").read_text()
                time.sleep(0.5)
            yield
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(30)
            shutil.rmtree(folder)


@pytest.fixture
def submitted(slurm, tmp_path):
    """Submits a script of Python and returns back end and id."""

    def submit(code: str, *overrides: str):
        place = backend("slurm", f"submit.folder={tmp_path}", "submit.gpus=0", *overrides)
        job = Script(name="evaluate", overrides=[code], settings={}, metadata={})
        return place, lifecycle.submit(place, job, "one", again=False, say=print)

    return submit


class Script(Job):
    def command(self, python="python"):
        return [python, "-c", *self.overrides]


DRAINS = """
import os, signal, sys, time
if os.path.exists({mark!r}):
    sys.exit(print("the rest is done"))
open({mark!r}, "w").close()
signal.signal(15, lambda *_: (print("drained", flush=True), sys.exit(1)))
print("begun", flush=True)
time.sleep(300)
"""


def ended(place, id: str) -> State:
    return lifecycle.wait(place, id, follow=False, poll_s=0.5, say=print)


def test_a_job_of_ours_runs_and_is_found_again(slurm, tmp_path):
    given = [f"submit.folder={tmp_path}", "submit=slurm", "submit.gpus=0", "poll_s=0.5"]
    command = [*given, "--follow", "--", "python", "-m", "jobs.demo", f"out={tmp_path}/demo"]
    for said in ("8 photographs in 2 demo shards", "succeeded already"):
        done = subprocess.run(
            [sys.executable, "-m", "jobs.submit", *command],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr
    assert len(list((tmp_path / "demo").glob("*.tar"))) == 2


def test_the_exit_status_arrives(submitted):
    assert ended(*submitted("import sys; sys.exit(3)")) == State(phase="failed", code=3)


def test_time_is_up_so_the_job_drains_and_is_queued_anew(submitted, tmp_path):
    code = DRAINS.format(mark=str(tmp_path / "mark"))
    place, id = submitted(code, "submit.time=00:01:00", "submit.notice_s=50")
    assert ended(place, id) == State(phase="succeeded", code=0)
    words = [line for line in place.log(id).splitlines() if not line.startswith("slurmstepd")]
    assert words == ["begun", "drained", "the rest is done"]


def test_what_is_cancelled_is_not_queued_anew(submitted, tmp_path):
    place, id = submitted(DRAINS.format(mark=str(tmp_path / "mark")))
    while "begun" not in place.log(id):
        time.sleep(0.2)
    assert place.look(id).phase == "running"
    assert lifecycle.stop(place, id, poll_s=0.5, say=print).phase == "stopped"
    assert "drained" in place.log(id)
    time.sleep(8)  # longer than a job that was queued anew would wait
    assert place.look(id).phase == "stopped"


def test_what_slurm_refuses_is_told_before_anything_is_queued(submitted, tmp_path):
    with pytest.raises(RunError, match=r"sbatch refuses: .*invalid partition"):
        submitted("", "submit.partition=nowhere")
    assert list(tmp_path.iterdir()) == []
    place = backend("slurm", "submit.gpus=0")
    slow = Job(name="x", overrides=[], settings={"cluster": {"grace_s": 300.0}}, metadata={})
    with pytest.raises(UsageError, match=r"within submit\.notice_s=120; give less"):
        place.check(slow, print)
