"""Sweeps end to end: real Ray, a small network with random weights, drivers that are killed."""

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import encode, write_tar
from PIL import Image
from processes import Started, job

from jobs import aggregate
from pipeline.rows import RunDir
from pipeline.rows.writer import staged
from pipeline.studies.curves.rows import CURVES
from pipeline.verify import verify

IMAGES = 3
METHODS = "methods=[moxi_insertion,random_0],[random_0,moxi_minus],[moxi_insertion]"
ROWS = 1 + 2 + 2
"""Distinct rows of an image and (masking, players): moxi_insertion finds one order, others two."""


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    def photograph(seed: int) -> bytes:
        pixels_HWC = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(pixels_HWC).resize((160, 160), Image.Resampling.BICUBIC)
        return encode(image, "PNG")

    members = {f"{i}.png": photograph(i) for i in range(IMAGES)}
    return write_tar(tmp_path_factory.mktemp("tars") / "s.tar", members)


def given(shard: Path, out: Path, *more: str) -> list[str]:
    return [
        *("dataset.name=toy", f"dataset.shards={shard}", f"out={out}", "tracking=disabled"),
        *("model=timm", "model.name=test_resnet", "model.weights=random"),
        *("+model.kwargs.num_classes=10", "+model.preprocessing.input_size=[3,32,32]"),
        *("cluster.actors=1", "cluster.threads=1", *more),
    ]


def killed(process: Started, when) -> str:
    """kill -9 once `when` holds; its actors notice and end."""
    until = time.monotonic() + 480
    while not when() and time.monotonic() < until:
        assert process.returncode is None, process.stdout + process.stderr
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    psutil.wait_procs(children, timeout=60)
    return process.stdout + process.stderr


def identities(out: Path) -> Counter:
    """Of every row that lies in parts."""
    run = RunDir(str(out), CURVES)
    rows = [row for name in run.sealed() for row in run.read_rows(name)]
    assert all(row["status"] == "ok" for row in rows)
    return Counter((r["key"], r["fingerprint"], r["objective"]) for r in rows)


def test_a_sweep_computes_each_row_once_and_resumes_and_grows(shard, tmp_path, shared_ray):
    out = tmp_path / "run"
    asked = given(shard, out, "players.grid=2,4", METHODS)
    run = RunDir(str(out), CURVES)
    cut = killed(
        Started("evaluate", "-m", *asked, "masking=zero,blur"), lambda: len(list(staged(run))) >= 3
    )
    assert "error" not in cut
    done = job("evaluate", "-m", *asked, "masking=zero,blur")
    found = identities(out)
    distinct = 2 * 2 * ROWS * IMAGES
    assert len(found) == distinct and set(found.values()) == {1}
    assert f"{distinct} expected, {distinct} rows, 0 duplicates" in done.stdout
    assert f" of {distinct} rows are there; computing" in done.stdout
    assert f": 0 of {distinct} rows are there" not in done.stdout  # what the first made durable
    assert (done.stdout + done.stderr).count("starting Ray") == 1
    progress = json.loads((out / "progress.json").read_text())
    assert progress["state"] == "finished" and len(progress["cells"]) == 12
    assert len(progress["actors"]) == 1  # one actor, one model
    lines = [line for line in done.stdout.splitlines() if line.startswith("players.grid=")]
    assert len(lines) == 12 and all(line.endswith("ok") for line in lines)
    assert len(json.loads((out / "sweep.json").read_text())["cells"]) == 12

    before = {part: (out / "results" / part).read_bytes() for part in run.sealed()}
    more = job("evaluate", "-m", *asked, "masking=zero,blur,mean,nothing", shared_ray, check=False)
    assert more.returncode == 1, more.stdout + more.stderr
    new = 2 * ROWS * IMAGES
    assert f"computing {new} rows of " in more.stdout
    assert f"{distinct + new} expected, {distinct + new} rows, 0 duplicates" in more.stdout
    assert more.stdout.count("error: masking/nothing does not exist") == 6
    assert {part: (out / "results" / part).read_bytes() for part in before} == before
    spent = json.loads((out / "progress.json").read_text())
    rows = [r for name in set(run.sealed()) - set(before) for r in run.read_rows(name)]
    assert {r["masking"] for r in rows} == {"mean"} and len(rows) == new
    # each order searched once, each judged once, end points of 2 families of cells an image
    searched = {(r["key"], r["order_fingerprint"]): r["evaluations"] for r in rows}
    assert spent["spent"]["forwards"] <= spent["forwards"]
    assert spent["spent"]["forwards"] >= sum(searched.values())

    assert not any(tally.count for tally in verify(run).tallies().values())
    settings = [f"out={out}", "tracking=disabled", "resamples=10", "gallery=0"]
    aggregate.main.job(aggregate.main.settings(settings))
    assert len((out / "sweep.csv").read_text().splitlines()) == 1 + 18
    assert "<h2>Sweep</h2>" in (out / "report" / "index.html").read_text()


def trials(out: Path) -> list[dict]:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = out / "optuna.journal"
    if not path.exists():
        return []
    storage = JournalStorage(JournalFileBackend(str(path)))
    names = optuna.get_all_study_names(storage)
    if not names:
        return []
    (name,) = names
    found = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    return [{"state": t.state.name, "params": t.params, "value": t.value} for t in found]


@pytest.mark.slow
def test_a_search_resumes_after_a_kill_without_repeating_a_trial(shard, tmp_path):
    out = tmp_path / "run"
    asked = given(shard, out, "sweep=optuna", "sweep.trials=12", "players.grid=2")
    asked += ["dataset.limit=2", "methods=[rise_players]", "methods.rise_players.forwards=8"]
    asked += ["methods.rise_players.keep=interval(0.2,0.8)", "masking=zero,blur"]

    def some() -> bool:
        return sum(t["state"] == "COMPLETE" for t in trials(out)) >= 4

    cut = killed(Started("evaluate", "-m", *asked), some)
    before = trials(out)
    told = [t for t in before if t["state"] == "COMPLETE"]
    assert 4 <= len(told) < 12 and "error" not in cut
    done = job("evaluate", "-m", *asked)
    after = trials(out)
    assert [t["state"] for t in after] == ["COMPLETE"] * 12
    assert after[: len(told)] == told
    for old, new in zip(before, after, strict=False):
        assert old["params"].items() <= new["params"].items()  # one under way is taken up again
    assert len({t["params"]["methods.rise_players.keep"] for t in after}) == 12
    assert done.stdout.count("\ntrial: ") + done.stdout.startswith("trial: ") == 12 - len(told)
    assert (done.stdout + done.stderr).count("starting Ray") <= 1
    assert set(identities(out).values()) == {1}
    assert "best of 12 trials" in done.stdout
