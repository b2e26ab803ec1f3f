"""Submissions: command lines, packages, what would be sent, and jobs in the background."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from processes import job

from jobs import submit
from jobs.submit import composed, translated
from pipeline import RunError, UsageError, token
from pipeline.components import component
from pipeline.config import CONF
from pipeline.submission import Job, State, lifecycle
from pipeline.submission.kuberay import state
from pipeline.submission.package import lacking, packed
from pipeline.submission.ray import _too_small

GOLDEN = ROOT / "tests" / "data" / "submit"
JOB = Job(
    name="evaluate",
    overrides=["dataset=imagenet", 'dataset.shards="/data/x-{00..63}.tar"', "out=s3://bucket/run"],
    settings={"cluster": {"grace_s": 30.0, "address": "auto"}, "out": "s3://bucket/run"},
    metadata={"revision": "0123abc", "dirty": "false", "settings": "89ef"},
)
OPTIONS = {
    "ray": ["submit.gpus=8", "submit.pip=[open_clip_torch]", "+submit.env.HF_TOKEN=abcdefgh"],
    "kuberay": ["submit.claim=shared", "submit.secret=store"],
    "kuberay_queue": ["submit.queue=research", "submit.deadline_s=86400"],
    "cronjob": ["submit.claim=shared"],
    "slurm": ["submit.partition=gpu", "submit.setup=[module load cuda]"],
    "local": [],
}


def backend(name: str, *overrides: str):
    given = [f"submit={name.split('_')[0]}", *overrides]
    return component(submit.main.settings(given)["submit"], "submit")


def preview(name: str, tmp_path: Path) -> str:
    options = list(OPTIONS[name])
    if name == "ray":
        (tmp_path / "jobs").mkdir()
        (tmp_path / "jobs" / "evaluate.py").write_text("print()\n")
        options.append(f"submit.working_dir={tmp_path}")
    said = backend(name, *options).preview(JOB, JOB.id)
    for found, word in (
        (str(tmp_path), "FOLDER"),
        (sys.executable, "PYTHON"),
        (os.getcwd(), "HERE"),
        (f'rayVersion: "{version("ray")}"', "rayVersion: RAY"),
    ):
        said = said.replace(found, word)
    return said


@pytest.mark.parametrize("name", OPTIONS)
def test_a_dry_run_prints_what_would_be_sent(name, tmp_path):
    assert preview(name, tmp_path) == (GOLDEN / f"{name}.txt").read_text()


def test_every_back_end_has_such_a_test():
    assert {p.stem for p in (CONF / "submit").glob("*.yaml")} == {n.split("_")[0] for n in OPTIONS}


@pytest.mark.parametrize("name", ["kuberay", "kuberay_queue", "cronjob"])
def test_manifests_are_what_kubernetes_takes(name, tmp_path):
    manifest = yaml.safe_load(preview(name, tmp_path))
    if name == "cronjob":
        documents = [manifest]
        assert manifest["spec"]["concurrencyPolicy"] == "Forbid"
    else:
        cluster = manifest["spec"]["rayClusterSpec"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        documents = [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}} | group["template"]
            for group in groups
        ]
        assert cluster["authOptions"] == {"mode": "token"}
        assert len(manifest["metadata"]["name"]) <= 47  # KubeRay's limit
        limits = documents[1]["spec"]["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == 1
        queued = "kueue.x-k8s.io/queue-name" in manifest["metadata"]["labels"]
        assert cluster["enableInTreeAutoscaling"] != queued == (name == "kuberay_queue")
    for document in documents:
        kubernetes_validate.validate(document, "1.30", strict=True)
    documents[0]["spec"]["nonsense"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents[0], "1.30", strict=True)


def test_scripts_are_shell(tmp_path):
    for name in ("slurm", "local"):
        script = preview(name, tmp_path)
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        assert ("#SBATCH --requeue" in script) == (name == "slurm")


PRINTED = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])


@settings(deadline=None)
@given(st.lists(st.text(PRINTED, max_size=12) | st.text("$\\{}'\"=,[] ", max_size=6), min_size=1))
def test_any_command_line_arrives_as_it_was_typed(words):
    (override,) = translated(["--", *words])
    read = OverridesParser.create().parse_override(override).value()
    assert OmegaConf.to_container(OmegaConf.create({"command": read}), resolve=True) == {
        "command": words
    }


@pytest.mark.parametrize(
    "word", ["out=${dataset.name}", r"\${x}", r"a\\${x}", "'", "\\", "\\'", ""]
)
def test_hard_words(word):
    assert submit.main.settings(translated(["--", word]))["command"] == [word]


def test_flags_are_settings():
    flags = ["--wait", "--no-wait", "--follow", "--status"]
    assert translated(flags) == ["wait=true", "wait=false", "follow=true", "action=status"]
    assert translated(["--dry-run", "submit=ray"]) == ["action=dry_run", "submit=ray"]


DEMO = ["dataset=demo", "out=/shared/run"]


@pytest.mark.parametrize(
    "command",
    [
        ["python", "-m", "jobs.evaluate", *DEMO],
        ["/usr/bin/python3.12", "-m", "jobs.evaluate", *DEMO],
        ["pixel-quorum", "evaluate", *DEMO],
        ["jobs.evaluate", *DEMO],
        ["evaluate", *DEMO],
    ],
)
def test_a_job_may_be_named_as_one_runs_it(command):
    found = composed(command, backend("ray"))
    assert found.name == "evaluate"
    assert found.overrides == [*DEMO, "cluster.address=auto"]
    assert found.settings["cluster"]["address"] == "auto"


@pytest.mark.parametrize(
    ("name", "command", "said"),
    [
        ("ray", ["evalate"], "'evalate' is no job that can be submitted; use one of evaluate"),
        ("ray", ["evaluate", "dataset=demo"], r"out=runs/demo: a relative folder would be lost"),
        ("ray", ["evaluate", *DEMO, "players=no"], "players/no does not exist"),
        ("ray", ["evaluate", *DEMO, "engine.precision=fp8"], "engine.precision=fp8: give one of"),
        ("local", ["evaluate", "dataset=demo", f"out={ROOT}/LICENSE/x"], "give a directory"),
        ("local", ["submit"], "'submit' is no job that can be submitted"),
        (
            "slurm",
            ["evaluate", *DEMO, "dataset.shards=https://me:hidden@host/x.tar"],
            r"dataset.shards=https://\*\*\*@host/x.tar: holds a credential",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(name, command, said):
    with pytest.raises(UsageError, match=said):
        composed(command, backend(name))


def test_a_sweep_is_checked_by_its_first_cell():
    command = ["evaluate", "-m", *DEMO, "players=patch2,patch7", "masking=zero,blur"]
    found = composed(command, backend("ray"))
    assert "players=patch2,patch7" in found.overrides and "-m" in found.overrides
    with pytest.raises(UsageError, match="players/no does not exist"):
        composed([*command[:4], "players=no,patch7"], backend("ray"))


def test_kuberay_asks_for_the_workers_that_it_may_grow_to():
    given = backend("kuberay", "submit.max_workers=3", "submit.gpus=2")
    found = composed(["evaluate", *DEMO, "cluster.gpus_per_actor=0.5"], given)
    assert found.overrides[-2:] == ["cluster.address=auto", "cluster.actors=12"]
    alone = composed(["aggregate", "out=s3://bucket/run"], given)
    assert alone.overrides == ["out=s3://bucket/run"]


def test_an_id_is_of_settings_and_code():
    def id(**changed) -> str:
        return Job(**{**vars(JOB), **changed}).id

    assert id() == JOB.id and JOB.id.startswith("evaluate-")
    assert id(metadata={**JOB.metadata, "revision": "4567"}) != JOB.id
    assert id(settings={**JOB.settings, "out": "s3://bucket/other"}) != JOB.id


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A repository with a job, data that git ignores, tars and a run."""
    folder = tmp_path / "checkout"
    files = {"jobs/x.py": "x", "pipeline/data/y.py": "y", ".gitignore": "/data/\n", "new.py": "n"}
    files |= {
        "data/demo/a.tar": "a",
        "data/demo/names.txt": "n",
        "runs/r/x": "r",
        "tests/b.tar": "b",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content * 1000)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "add", "jobs", "pipeline", "tests"], check=True)
    return folder


def test_a_package_holds_the_code_and_not_the_data(checkout):
    package = packed(str(checkout), [], 50)
    assert set(package.files) == {"jobs/x.py", "pipeline/data/y.py", ".gitignore", "new.py"}
    names = zipfile.ZipFile(BytesIO(package.content)).namelist()
    assert names == sorted(package.files)
    os.utime(checkout / "new.py", (1, 1))
    assert packed(str(checkout), [], 50) == package
    more = packed(str(checkout), ["data/demo"], 50)
    assert set(more.files) - set(package.files) == {"data/demo/a.tar", "data/demo/names.txt"}
    assert more.name != package.name
    asked = {
        "dataset": {"shards": ["data/demo/*.tar", "s3://x/y.tar"], "names": "data/demo/names.txt"},
        "more": {"keys": "tests/b.tar", "there": "jobs/x.py", "nowhere": "data/none/x.tar"},
    }
    assert list(lacking(asked, package)) == [
        "dataset.shards=data/demo/*.tar (data/demo/a.tar is not in the package)",
        "dataset.names=data/demo/names.txt (data/demo/names.txt is not in the package)",
        "more.keys=tests/b.tar (tests/b.tar is not in the package)",
    ]
    assert len(list(lacking(asked, more))) == 1


def test_outside_of_git_hidden_files_stay(checkout):
    subprocess.run(["rm", "-r", str(checkout / ".git")], check=True)
    assert set(packed(str(checkout), [], 50).files) == {"jobs/x.py", "pipeline/data/y.py", "new.py"}


def test_what_is_too_large_or_not_there_is_named(checkout):
    (checkout / "weights").mkdir()
    (checkout / "weights" / "big.bin").write_bytes(b"x" * 2_000_000)
    with pytest.raises(
        UsageError, match=r"2\.0 MB are more than .* the biggest: weights 2\.0 MB, "
    ):
        packed(str(checkout), [], 1)
    with pytest.raises(UsageError, match=r"submit\.include: data/none is no file or folder below"):
        packed(str(checkout), ["data/none"], 50)


def test_another_host_is_asked_nothing_without_a_token(monkeypatch, tmp_path):
    """Nor is the address looked up wrongly: 192.0.2.1 would time out if it were asked."""
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    for address in ("http://192.0.2.1:8265", "https://192.0.2.1"):
        far = backend("ray", f"submit.address={address}")
        for action in (lambda far=far: far.look("x"), lambda far=far: far.check(JOB, print)):
            with pytest.raises(UsageError, match="another host, and there is no token"):
                action()
    for address in ("192.0.2.1:8265", "http://me:hidden@192.0.2.1", "ray://192.0.2.1:10001"):
        with pytest.raises(UsageError, match="give http://<host>:8265"):
            backend("ray", f"submit.address={address}")


def test_the_tokens_file_is_its_owners_alone(monkeypatch, tmp_path):
    path = tmp_path / "token"
    path.write_text("secret\n")
    path.chmod(0o644)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert token.find() == "secret"
    with pytest.raises(RunError, match="nobody answers"):
        backend("ray", "submit.address=http://127.0.0.1:1").look("x")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_worker_that_no_node_can_hold_is_noticed():
    usual = {"actors": None, "threads": 4, "gpus_per_actor": 2.0, "cpu_actors": 1}
    usual |= {"address": "auto", "placement_timeout_s": 1}

    def told(*nodes: dict[str, float]) -> list[str]:
        total = {name: sum(n.get(name, 0.0) for n in nodes) for name in ("CPU", "GPU")}
        return _too_small(nodes, total, usual)

    assert told({"CPU": 8.0, "GPU": 4.0}) == []
    assert told({"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 1.0}) == [
        "has no node with what one worker needs: 2 GPU, 1 CPU (the largest: 1 GPU, 2 CPU)",
        "has no node with what one worker needs: 4 CPU (the largest: 2 CPU)",
    ]
    assert told({"CPU": 2.0}, {"CPU": 2.0}) == [
        "has no node with what one worker needs: 4 CPU (the largest: 2 CPU)"
    ]
    assert told({}) == ["has no CPU for workers"]


class Scripted:
    """A back end whose jobs do what they are told to."""

    remote = standing = False

    def __init__(self, **states: State):
        self.states, self.started, self.logs = states, [], {}

    def look(self, id):
        return self.states.get(id)

    def check(self, job, say): ...

    def start(self, job, id):
        self.started.append(id)

    def log(self, id):
        return "".join(f"{i}\n" for i in range(30))


def test_an_id_is_used_once_and_what_runs_or_has_finished_is_found():
    said: list[str] = []
    failed, done = State(phase="failed", code=3), State(phase="succeeded", code=0)

    def submitted(again: bool = False, **states: State) -> tuple[str, list[str]]:
        backend = Scripted(**states)
        return lifecycle.submit(backend, JOB, "x", again=again, say=said.append), backend.started

    assert submitted() == ("x", ["x"])
    assert submitted(x=failed) == ("x-2", ["x-2"])
    assert submitted(**{"x": failed, "x-2": State(phase="running")}) == ("x-2", [])
    assert "x-2: the same settings and code are running already" in said
    assert submitted(x=done) == ("x", [])
    assert submitted(x=done, again=True) == ("x-2", ["x-2"])


def test_waiting_ends_with_the_last_lines_and_the_status():
    said: list[str] = []
    backend = Scripted(x=State(phase="failed", code=-9, message="killed"))
    found = lifecycle.wait(backend, "x", follow=False, poll_s=0.1, say=said.append)
    assert found.exit_status == 137
    assert said[0] == "  10" and said[-1] == "x: failed, exit status -9: killed"
    with pytest.raises(RunError, match="y: it is gone"):
        lifecycle.wait(backend, "y", follow=True, poll_s=0.1, say=said.append)


def test_what_kuberay_says_is_understood():
    def of(**status) -> State:
        return state({"spec": {"suspend": status.pop("suspend", False)}, "status": status})

    assert of() == State(phase="pending")
    assert of(jobDeploymentStatus="Running", jobStatus="RUNNING") == State(phase="running")
    assert of(jobDeploymentStatus="Complete", jobStatus="SUCCEEDED").exit_status == 0
    message = "Job entrypoint command failed with exit code 3, last available logs:\nerror"
    ended = of(
        jobDeploymentStatus="Failed", jobStatus="FAILED", reason="AppFailed", message=message
    )
    assert ended.code == 3 and ended.message.startswith("AppFailed: Job entrypoint command failed")
    assert of(jobDeploymentStatus="Suspended", suspend=True).phase == "stopped"
    assert of(jobDeploymentStatus="Failed", reason="DeadlineExceeded").exit_status == 1


def test_a_job_in_the_background(tmp_path):
    """It goes on by itself, is found again, ends with its own status, and may be stopped."""
    given = ["submit=local", f"submit.folder={tmp_path}/submitted", "poll_s=0.2"]
    command = ["--", "python", "-m", "jobs.demo", f"out={tmp_path}/demo"]
    first = job("submit", *given, *command).stdout
    assert "submitted" in first and "succeeded, exit status 0" in first
    assert len(list((tmp_path / "demo").glob("*.tar"))) == 2
    again = job("submit", *given, "--follow", *command).stdout
    assert "succeeded already; again=true" in again and "8 photographs in 2" in again
    assert "succeeded" in job("submit", *given, "--status", *command).stdout
    wrong = ["--", "jobs.evaluate", "dataset.name=x", f"dataset.shards={tmp_path}/x.tar"]
    wrong += [f"out={tmp_path}/run"]
    failed = job("submit", *given, *wrong, check=False)
    assert failed.returncode == 2 and "x.tar does not exist" in failed.stdout
    assert "-2: submitted" in job("submit", *given, *wrong, check=False).stdout


def test_a_background_job_is_stopped_and_its_lost_process_noticed(tmp_path):
    local = component(
        {"_target_": "pipeline.submission.local.Local", "folder": str(tmp_path)}, "submit"
    )
    slow = Slow(name="demo", overrides=["out=x"], settings={}, metadata={})
    said: list[str] = []
    for end in (lambda: lifecycle.stop(local, "x", poll_s=0.1, say=said.append), None):
        id = lifecycle.submit(local, slow, "x", again=False, say=said.append)
        while "ready" not in local.log(id):
            time.sleep(0.05)
        assert local.look(id) == State(phase="running")
        if end:
            assert end() == State(phase="stopped", code=5)
        else:
            pid = int((tmp_path / id / "process").read_text().split()[0])
            os.killpg(pid, signal.SIGKILL)
            time.sleep(0.5)
            assert local.look(id).phase == "failed" and id == "x-2"
    assert "drained" in local.log("x")


class Slow(Job):
    """Waits until it is told to drain, which it does."""

    def command(self, python="python"):
        code = "import signal, sys, time\n"
        code += "signal.signal(15, lambda *_: (print('drained', flush=True), sys.exit(5)))\n"
        code += "print('ready', flush=True); time.sleep(60)"
        return [python, "-c", code]
