"""Processes of a Ray cluster of several nodes are killed while they work: every row is there once,
equal to those of a run that nobody disturbed, and little is computed twice. Takes half an hour."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, encode, write_tar
from PIL import Image

from pipeline.rows import RunDir
from pipeline.rows.writer import staged
from pipeline.studies.curves.rows import CURVES

pytestmark = pytest.mark.slow

IMAGES = 90
WINDOW = 9
"""Images in flight in an actor at the most: six in the engine, the others decoded or on their way
to the store."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tars")
    for shard in range(3):
        members = {}
        for i in range(IMAGES // 3):
            image = Image.effect_noise((80, 80), 20 + i).convert("RGB")
            members[f"{shard}-{i:03}.jpg"] = encode(image, quality=90)
            members[f"{shard}-{i:03}.cls"] = b"1"
        write_tar(folder / f"noise-{shard}.tar", members)
    return f"{folder}/noise-*.tar"


class Run:
    """One run directory and the commands that work on it."""

    def __init__(self, folder: Path, shards: str, *more: str, **env: str):
        self.out, self.log, self.more = folder / "run", folder / "log", more
        self.env = {"FAULT_LOG": str(self.log), "PYTHONPATH": f"{ROOT}/tests/data", **env}
        self.log.touch()
        self.shards = shards

    def start(self, *more: str) -> subprocess.Popen:
        command = [
            *(sys.executable, "-m", "jobs.evaluate", "dataset.name=noise"),
            *(f"dataset.shards={self.shards}", "model=timm", "model.name=test_efficientnet"),
            *("model.weights=random", "+model.kwargs.num_classes=10", "tracking=disabled"),
            *("plugins=[faulty]", "players._target_=faulty.players.Faulty", "players.grid=4"),
            *("methods=[moxi_insertion,random_0]", "cluster.threads=1", "cluster.actors=2"),
            *(f"out={self.out}", *self.more, *more),
        ]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that Ctrl-C can be sent as a terminal does, to all of it
        )

    def until(self, process: subprocess.Popen, images: int) -> None:
        """So many images were begun since the run was."""
        limit = time.monotonic() + 200
        while len(self.begun()) < images:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < limit, "nothing happens"
            time.sleep(0.05)

    def begun(self) -> list[str]:
        return self.log.read_text().split()

    def end(self, process: subprocess.Popen, code: int | None = 0) -> str:
        said, _ = process.communicate(timeout=400)
        assert code is None or process.returncode == code, said
        assert "Traceback" not in said, said
        return said

    def whole(self) -> dict[tuple, dict]:
        """Every row, each once; nothing is left in staging."""
        run = RunDir(str(self.out), CURVES)
        rows = [row for name in run.sealed() for row in run.read_rows(name)]
        found = {(r["key"], r["method"], r["objective"]): r for r in rows}
        assert len(found) == len(rows) == 3 * IMAGES
        left = list((self.out / "staging").rglob("*.parquet"))
        assert left == []
        verify = [sys.executable, "-m", "jobs.verify", f"out={self.out}", "plugins=[faulty]"]
        subprocess.run(verify, cwd=ROOT, env=os.environ | self.env, check=True)
        return found

    def again(self) -> int:
        """Images that were begun more often than once."""
        return sum(n - 1 for n in Counter(self.begun()).values())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, shards) -> dict[tuple, dict]:
    run = Run(tmp_path_factory.mktemp("undisturbed"), shards)
    run.end(run.start())
    assert run.again() == 0
    return run.whole()


def same(found: dict[tuple, dict], other: dict[tuple, dict], *but: str) -> None:
    for identity, row in other.items():
        if identity[0] not in but:
            assert row["status"] == found[identity]["status"] == "ok", found[identity]["error"]
            assert row["order"] == found[identity]["order"]


def actors(process: subprocess.Popen | None = None) -> list[psutil.Process]:
    """Workers of ours that have begun, whoever started their node."""
    every = psutil.process_iter(["cmdline"]) if process is None else _children(process)
    return [p for p in every if "ray::Worker" in " ".join(_command(p)[:1])]


def ray(process: subprocess.Popen, name: str) -> psutil.Process:
    (found,) = (p for p in _children(process) if _command(p)[:1] and name in _command(p)[0])
    return found


def _children(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def told(case: str, run: Run) -> None:
    print(f"{case}: {run.again()} images begun again")


def test_a_killed_actor(tmp_path, shards, undisturbed):
    run = Run(tmp_path, shards)
    process = run.start()
    run.until(process, 40)
    actors(process)[0].kill()
    run.end(process)
    same(run.whole(), undisturbed)
    told("kill -9 of an actor", run)
    assert run.again() <= WINDOW


def test_a_killed_driver(tmp_path, shards, undisturbed):
    run = Run(tmp_path, shards)
    process = run.start()
    run.until(process, 40)
    process.kill()
    process.wait()
    run.end(run.start())  # while its actors may still be there
    same(run.whole(), undisturbed)
    told("kill -9 of the driver", run)
    assert run.again() <= 3 * WINDOW  # its actors lived on for some seconds


@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_a_killed_part_of_ray(tmp_path, shards, undisturbed, victim):
    run = Run(tmp_path, shards)
    process = run.start()
    run.until(process, 40)
    ray(process, victim).kill()
    began = time.monotonic()
    said = run.end(process, 1)
    assert time.monotonic() - began < 30
    assert said.strip().splitlines()[-1].startswith("error: Ray has died")
    run.end(run.start())
    same(run.whole(), undisturbed)
    told(f"kill -9 of the {victim}", run)
    assert run.again() <= 2 * WINDOW


def test_a_stopped_actor(tmp_path, shards, undisturbed):
    run = Run(tmp_path, shards, "cluster.image_deadline_s=15")
    process = run.start()
    run.until(process, 40)
    actors(process)[0].suspend()
    run.end(process)
    same(run.whole(), undisturbed)
    told("SIGSTOP of an actor", run)
    assert run.again() <= WINDOW


@pytest.mark.parametrize("kind", ["FAULT_POISON", "FAULT_HANG"])
def test_an_image_that_ends_its_workers(tmp_path, shards, undisturbed, kind):
    run = Run(tmp_path, shards, "cluster.image_deadline_s=15", **{kind: "1-007"})
    said = run.end(run.start())
    assert "3 rows failed" in said
    found = {(r["key"], r["method"]): r for r in RunDir(str(run.out), CURVES).read().to_pylist()}
    assert len(found) == 2 * IMAGES
    failed = [key for key, row in found.items() if row["status"] != "ok"]
    assert {key for key, _ in failed} == {"1-007"}
    assert "its worker process died 3 times" in found["1-007", "random_0"]["error"]
    told(kind, run)
    run.env.pop(kind)
    run.end(run.start("retry=failed"))
    same(run.whole(), undisturbed)


def test_the_tries_of_a_poison_outlive_the_driver(tmp_path, shards):
    run = Run(tmp_path, shards, FAULT_POISON="1-007")
    process = run.start()
    while run.begun().count("1-007") < 2:
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(3)
    process.kill()
    process.wait()
    run.end(run.start())
    assert run.begun().count("1-007") <= 9  # had it been forgotten: two or three and eight more


def test_signals_end_a_run_in_order(tmp_path, shards, undisturbed):
    run = Run(tmp_path, shards)
    for number in (signal.SIGTERM, signal.SIGINT):
        process = run.start()
        before = len(run.begun())
        run.until(process, before + 20)
        mine = {p.pid for p in _children(process)}
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        said = run.end(process, 1)
        assert re.search(r"error: stopped by (SIGTERM|Ctrl-C): \d+ of \d+ images", said)
        assert not mine & set(psutil.pids())
    process = run.start("cluster.time_limit_s=60")  # 30 of which are the grace
    said = run.end(process, None)
    run.end(run.start())
    same(run.whole(), undisturbed)
    told("SIGTERM, Ctrl-C", run)
    assert run.again() == 0


def test_a_full_disk(tmp_path, shards, undisturbed):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)])
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        run = Run(tmp_path, shards)
        run.out = small / "run"
        process = run.start()
        run.until(process, 30)
        (small / "filler").write_bytes(b"")
        with pytest.raises(OSError, match="No space"):
            (small / "filler").write_bytes(b"x" * 2**24)
        time.sleep(8)
        (small / "filler").unlink()
        run.end(process, None)
        run.end(run.start())
        same(run.whole(), undisturbed)
        told("disk full, then freed", run)
    finally:
        shutil.rmtree(small, ignore_errors=True)
        subprocess.run(["umount", "-l", str(small)])


def test_two_at_once(tmp_path, shards, undisturbed):
    run = Run(tmp_path, shards)
    both = [run.start(), run.start()]
    for process in both:
        run.end(process)
    same(run.whole(), undisturbed)
    assert run.again() == 0


def test_fifty_kills(tmp_path, shards, undisturbed):
    run, rng, kills = Run(tmp_path, shards), random.Random(0), Counter()
    process = run.start("cluster.tries=9")
    while sum(kills.values()) < 50:
        time.sleep(rng.uniform(0.5, 3))
        if process.poll() == 0:
            break  # nothing is left to be killed
        if process.poll() is not None:
            assert process.returncode < 0, process.stdout.read()
            process = run.start("cluster.tries=9")
        elif (victims := actors(process)) and rng.random() < 0.92:
            rng.choice(victims).kill()
            kills["actor"] += 1
        elif victims:
            process.kill()
            process.wait()
            kills["driver"] += 1
    run.end(process, None)
    run.end(run.start())
    same(run.whole(), undisturbed)
    told(f"random kills {dict(kills)}", run)
    assert sum(kills.values()) >= 30


class Nodes:
    """A Ray cluster of a head without room for actors, and nodes with room for one each."""

    def __init__(self, env: dict[str, str], nodes: int):
        self.env = os.environ | env | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
        self.port = 20000 + random.randrange(10000)
        head = f"--head --port={self.port} --num-cpus=0 --include-dashboard=false"
        self.nodes = [self._start(head)]
        time.sleep(8)
        for _ in range(nodes):
            self.add()
        time.sleep(8)

    def add(self) -> None:
        self.nodes.append(self._start(f"--address=127.0.0.1:{self.port} --num-cpus=1"))

    def _start(self, options: str) -> subprocess.Popen:
        ray = Path(sys.executable).with_name("ray")
        return subprocess.Popen(
            [ray, "start", "--block", *options.split()],
            env=self.env,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self, node: subprocess.Popen) -> None:
        """As if the machine lost its power."""
        for process in [*_children(node), psutil.Process(node.pid)]:
            process.kill()
        node.wait()

    def end(self) -> None:
        for node in self.nodes:
            if node.poll() is None:
                self.kill(node)


def test_a_node_that_loses_its_power(tmp_path, shards, undisturbed):
    run = Run(tmp_path, shards, RAY_AUTH_MODE="disabled")
    cluster = Nodes(run.env, 2)
    try:
        run.more = (f"cluster.address=127.0.0.1:{cluster.port}",)
        process = run.start()
        run.until(process, 40)
        cluster.kill(cluster.nodes[1])
        cluster.add()
        run.end(process)
        same(run.whole(), undisturbed)
        told("a node is gone", run)
        assert run.again() <= WINDOW
    finally:
        cluster.end()


def test_everything_in_an_object_store(tmp_path, photographs, monkeypatch):
    s3fs = pytest.importorskip("s3fs")
    from counting_s3 import counting_s3

    with counting_s3() as (server, url):
        env = {
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "y",
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "PIXEL_QUORUM_CACHE": str(tmp_path / "cache"),
        }
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        store, size = s3fs.S3FileSystem(), 0
        store.mkdir("bucket")
        pictures = [name for name in sorted(photographs) if name.endswith((".jpg", ".png"))]
        for shard in range(3):
            members = {}
            for i in range(2 * IMAGES // 3):  # so many that what was in flight is few
                name = pictures[i % len(pictures)]
                members[f"{shard}-{i:03}.jpg"] = photographs[name]
                members[f"{shard}-{i:03}.cls"] = b"1"
            size += sum(map(len, members.values()))
            content = write_tar(tmp_path / "x.tar", members).read_bytes()
            store.pipe_file(f"bucket/noise-{shard}.tar", content)
        run = Run(tmp_path, "s3://bucket/noise-*.tar", **env)
        run.out = "s3://bucket/run"
        process = run.start()
        run.until(process, 20)
        process.kill()
        process.wait()
        run.end(run.start())
        place = RunDir("s3://bucket/run", CURVES)
        rows = [row for name in place.sealed() for row in place.read_rows(name)]
        found = Counter((r["key"], r["method"], r["objective"]) for r in rows)
        assert set(found.values()) == {1} and {r["status"] for r in rows} == {"ok"}
        assert not list(staged(place))
        images = len({key for key, *_ in found})
        told("S3, the driver killed", run)
        print(
            f"{server.sent / size:.3f} times the bytes of {images} images, {server.gets} reads, "
            f"{server.lists} listings"
        )
        assert server.sent < 1.2 * size
