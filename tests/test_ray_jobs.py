"""README's cluster, as it is printed there: a head with a token here, and jobs sent to it."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import requests
from conftest import ROOT
from test_submit import Slow

from pipeline import UsageError, token
from pipeline.components import component
from pipeline.config import CONF
from pipeline.submission import Job, State, lifecycle

pytestmark = pytest.mark.slow


def printed(path: str, heading: str) -> list[str]:
    """The commands of the first block of shell under a heading."""
    _, _, section = (ROOT / path).read_text().partition(f"{heading}\n")
    block = re.search(r"```sh\n(.*?)```", section, re.S)
    assert block, (path, heading)
    return block[1].replace("\\\n", " ").strip().splitlines()


class Head:
    """The commands that README prints, run in a copy of the code; what is this test's own is where
    things lie, and the ports."""

    def __init__(self, folder: Path):
        self.folder, self.said = folder / "checkout", ""
        self.folder.mkdir()
        for name in ("pipeline", "jobs", "conf", "README.md"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.folder / name)
        self.data, self.log = folder / "data", folder / "head.log"
        self.sessions = tempfile.mkdtemp(prefix="ray")  # a socket's path may not be long
        self.address = f"http://127.0.0.1:{free_port()}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        scripts = f"{folder}/bin:{Path(sys.executable).parent}"
        self.env = environment | {
            "HOME": str(folder / "home"),
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "PYTHONPATH": "",
        }
        (folder / "home").mkdir()
        (folder / "bin").mkdir()
        (folder / "bin" / "ray").write_text(
            f'#!/bin/sh\nexec {sys.executable} -m ray.scripts.scripts "$@"\n'
        )
        (folder / "bin" / "ray").chmod(0o755)
        self.process: subprocess.Popen | None = None

    def run(self, command: str) -> subprocess.CompletedProcess | None:
        """One line of README; `export` lasts, and a head goes on in the background."""
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self.env[name] = value
            return None
        command = command.replace("/data", str(self.data))
        command = command.replace("submit=ray", f"submit=ray submit.address={self.address}")
        if command.startswith("ray start --head"):
            return self.start(command)
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=400,
        )

    def start(self, command: str, tries: int = 3) -> None:
        """Ray gives its own node 30 seconds, which a busy machine may need for itself."""
        mine = f" --block --num-cpus=2 --temp-dir={self.sessions} --port={free_port()}"
        mine += f" --dashboard-port={self.address.rpartition(':')[2]}"
        mine += f" --ray-client-server-port={free_port()}"
        self.process = subprocess.Popen(
            shlex.split(command + mine),
            cwd=self.folder,
            env=self.env,
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        while "Ray runtime started" not in (said := self.log.read_text()):
            if self.process.poll() is not None:
                assert tries > 1 and "timed out during startup" in said, said
                return self.start(command, tries - 1)
            time.sleep(0.5)
        assert requests.get(f"{self.address}/api/version", timeout=60).status_code == 401

    def end(self) -> None:
        if self.process is not None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            for one in [psutil.Process(self.process.pid), *children]:
                if one.is_running():
                    one.kill()
            self.process.wait()
        shutil.rmtree(self.sessions, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    head = Head(tmp_path_factory.mktemp("cluster"))
    try:
        for command in printed("README.md", "## A cluster"):
            done = head.run(command)
            assert done is None or done.returncode == 0, (
                done.stdout + done.stderr + head.log.read_text()
            )
            head.said += done.stdout if done else ""
        yield head
    finally:
        head.end()


@pytest.fixture
def there(head, monkeypatch):
    """The job server, for this process, which has the token."""
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(Path(head.env["HOME"]) / ".ray" / "auth_token"))

    def backend(**changed):
        settings = {"address": head.address, "working_dir": None, "include": [], "most_mb": 50}
        settings |= {"gpus": 0, "growing": False, "pip": [], "env": {}} | changed
        return component({"_target_": "pipeline.submission.ray.RayJobs", **settings}, "submit")

    return backend


class Ends(Job):
    def command(self, python="python"):
        return [python, "-c", "import sys; print('so far', 1); sys.exit(3)"]


def test_readme_leads_to_results(head):
    assert re.search(r"package: \d+ files of .*, \d+\.\d MB", head.said)
    assert "has no GPU: workers will compute on CPUs" in head.said
    assert re.search(r"evaluate-\w{12}: succeeded, exit status 0", head.said)
    assert "next: python -m jobs.aggregate" in head.said  # the job's own words, followed
    rows = pq.read_table(head.data / "runs" / "demo" / "results").to_pylist()
    assert {row["status"] for row in rows} == {"ok"} and len({row["key"] for row in rows}) == 2
    assert (Path(head.env["HOME"]) / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def test_the_same_again_is_found(head):
    (command,) = (c for c in printed("README.md", "## A cluster") if "jobs.submit" in c)
    done = head.run(command)
    assert done and done.returncode == 0
    assert "the same settings and code are succeeded already" in done.stdout


def test_the_drivers_own_exit_status_arrives(head, there):
    ray, said = there(), []
    ends = Ends(name="evaluate", overrides=[], settings={}, metadata={"revision": "abc"})
    assert lifecycle.submit(ray, ends, "ends", again=False, say=said.append) == "ends"
    found = lifecycle.wait(ray, "ends", follow=False, poll_s=0.5, say=said.append)
    assert found.code == found.exit_status == 3
    assert "  so far 1" in said and "failed with exit code 3" in said[-1]
    assert lifecycle.submit(ray, ends, "ends", again=False, say=said.append) == "ends-2"
    command = "python -m jobs.submit submit=ray poll_s=0.5 -- jobs.evaluate dataset.name=x "
    command += "dataset.shards=/data/none.tar out=/data/x"
    done = head.run(command)
    assert done and done.returncode == 2 and "none.tar does not exist" in done.stdout


def test_stop_stops(there):
    ray, said = there(), []
    slow = Slow(name="evaluate", overrides=[], settings={}, metadata={})
    id = lifecycle.submit(ray, slow, "slow", again=False, say=said.append)
    while "ready" not in ray.log(id):
        time.sleep(0.3)
    assert ray.look(id) == State(phase="running")
    assert lifecycle.stop(ray, id, poll_s=0.3, say=said.append).phase == "stopped"
    assert "drained" in ray.log(id)


def test_without_the_token_nothing_is_told(head, there, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    assert token.find() is None
    with pytest.raises(UsageError, match="Unauthorized: Missing authentication token"):
        there().look("ends")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(UsageError, match="Forbidden: Invalid authentication token"):
        there().look("ends")


def test_what_the_cluster_lacks_is_said(there):
    said: list[str] = []
    job = Job(name="evaluate", overrides=[], settings={}, metadata={})
    with pytest.raises(UsageError, match="has 0 GPUs of the 8"):
        there(gpus=8).check(job, said.append)
    there(gpus=8, growing=True).check(job, said.append)
    assert said[-1].startswith("note: ") and "has 0 GPUs" in said[-1]


def test_the_images_health_check_is_one(head):
    (check,) = re.findall(r"HEALTHCHECK .*?CMD (.*?)\n\n", (ROOT / "Dockerfile").read_text(), re.S)
    check = check.replace("/tmp/ray", head.sessions).replace("\\\n", " ")
    done = head.run(check)
    assert done and done.returncode == 0, done.stderr
    assert head.run(check.replace(head.sessions, "/nowhere")).returncode == 0
    gone = f"echo 127.0.0.1:1 > {head.sessions}/gone; " + check.replace(
        "ray_current_cluster", "gone"
    )
    assert head.run(gone).returncode != 0


def test_every_file_of_the_group_is_told_of_in_the_docs():
    text = (ROOT / "docs" / "clusters.md").read_text()
    assert all(f"submit={path.stem}" in text for path in (CONF / "submit").glob("*.yaml"))
