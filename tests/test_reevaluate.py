"""Nights end to end: a baseline of a small network, the same weights, others, and what is said."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import timm
import torch
from conftest import encode, write_tar
from hydra.core.hydra_config import HydraConfig
from PIL import Image
from processes import job
from synthetic import seal

from jobs import evaluate, reevaluate
from pipeline.build import provenance
from pipeline.engine import Engine
from pipeline.studies.curves.build import build

N = 12


@pytest.fixture(scope="module")
def pinned(tmp_path_factory):
    """A small network's weights, some noise on them, and a run over twelve images."""
    place = tmp_path_factory.mktemp("pinned")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (N, 12, 12, 3), dtype=np.uint8)
    members = {f"{i:02}.png": encode(Image.fromarray(images[i]), "PNG") for i in range(N)}
    shards = write_tar(place / "s.tar", members)
    torch.manual_seed(0)
    state = timm.create_model("test_efficientnet", num_classes=10).state_dict()
    noisy = {
        k: v + 0.5 * v.std() * torch.randn_like(v) if v.is_floating_point() and v.ndim > 1 else v
        for k, v in state.items()
    }
    for name, tensors in (("v1", state), ("v2", noisy)):
        safetensors.torch.save_file(tensors, place / f"{name}.safetensors")
    settings = evaluate.main.settings(
        [
            *("model=timm", "model.name=test_efficientnet", "+model.kwargs.num_classes=10"),
            *(f"model.weights={place}/v1.safetensors", "model.label=v1"),
            *("+model.preprocessing.input_size=[3,64,64]", "dataset.name=toy"),
            *(f"dataset.shards={shards}", "players.grid=2", "tracking=disabled"),
            *("methods=[saliency,random_0]", f"out={place}/v1"),
        ]
    )
    work = build(settings)
    ready = [work.read(ref, work.wanted, {}) for ref in work.data.index()]
    tasks = [work.explain(one, work.wanted, {}) for one in ready]
    rows = [row for found in Engine(work.model).run(tasks, in_flight=4) for row in found]
    seal(place / "v1", (rows, provenance(settings, work)))
    return place


def held(place, *overrides, out="v1"):
    """jobs.reevaluate in this process: its exit status."""
    given = [f"out={place}/{out}", "baseline=main", f"baselines={place}/names", "resamples=100"]
    given += ["tracking=disabled", "cluster.actors=1", *overrides]
    told = SimpleNamespace(
        job=SimpleNamespace(config_name="reevaluate"), overrides=SimpleNamespace(task=given)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HydraConfig, "get", lambda: told)
        try:
            reevaluate.main.job(reevaluate.main.settings(given))
        except SystemExit as ended:
            return ended.code
    return 0


def test_the_same_checkpoint_passes_and_computes_nothing(pinned, capsys):
    assert held(pinned, "promote=true") == 0
    pointer = json.loads((pinned / "names" / "main.json").read_text())
    assert (pointer["run"], pointer["images"]) == (str(pinned / "v1"), N)
    assert held(pinned) == 0
    said = capsys.readouterr().out
    assert "nothing to compute" in said and "pass: v1" in said
    assert not sys.modules["ray"].is_initialized()
    verdict = json.loads((pinned / "v1" / "verdict.json").read_text())
    assert verdict["verdict"] == "pass" and verdict["changed_most"] == []
    assert {q["word"] for q in verdict["quantities"]} == {"pass"}
    assert held(pinned) == 0 and len(list((pinned / "v1" / "history").iterdir())) == 1


def test_other_weights_are_a_regression_until_somebody_accepts_them(pinned, capsys, shared_ray):
    assert held(pinned, "promote=true") == 0
    names, out = pinned / "names", pinned / "nightly"
    weights = [f"model.weights={pinned}/v2.safetensors", "model.label=v2"]
    done = job(
        *("reevaluate", f"out={out}", "baseline=main", f"baselines={names}", "resamples=100"),
        *(*weights, "tolerance.auc=0.0001", "tolerance.orders=0.01", "tracking=disabled"),
        *("cluster.actors=1", shared_ray),
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "regression: v2" in done.stdout and "changed most: s.tar/" in done.stdout
    verdict = json.loads((out / "verdict.json").read_text())
    page = (out / "report" / "reevaluation.html").read_text()
    for place in verdict["changed_most"][:3]:
        assert f"<h3>{place.partition('/')[2]}: " in page
    assert "now: saliency" in page and "baseline: saliency" in page
    rows = pq.read_table(out / "drift.parquet")
    assert set(rows["against_model"].to_pylist()) == {"v1"}
    assert len(rows) == 4 * N  # two methods, two objectives
    measured = {(q["kind"], q["subject"]): q for q in verdict["quantities"]}
    assert measured["orders", "random_0, insertion"]["mean"] == 0

    # a tolerance of the size of the change: not decided, and so many images are asked for
    area = max((q for q in measured.values() if q["kind"] == "auc"), key=lambda q: q["mean"])
    border = (area["mean"] + area["high"]) / 2
    near = [*weights, f"tolerance.auc={border}", "tolerance.orders=null", "tolerance.flips=null"]
    capsys.readouterr()
    assert border > 0 and held(pinned, *near, out="nightly") == 0
    said = capsys.readouterr().out
    assert "nothing to compute" in said and "warning: not decided; " in said
    verdict = json.loads((out / "verdict.json").read_text())
    assert verdict["verdict"] == "inconclusive" and verdict["needed"] > N
    assert held(pinned, *near, "strict=true", out="nightly") == 4

    # accepted: the next night is held against it
    assert held(pinned, "promote=true", out="nightly") == 0
    assert json.loads((names / "main.json").read_text())["model"] == "v2"
    assert held(pinned, out="nightly") == 0
