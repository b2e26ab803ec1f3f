"""Packed data sets through real Ray: one command, of which only `dataset=` changes."""

import json

import layouts
import pytest
from processes import ROOT, job

from jobs.evaluate import main as evaluate
from jobs.pack import main as pack
from pipeline.rows import RunDir
from pipeline.studies.curves.rows import CURVES

SAME = (
    *("model=timm", "model.name=test_resnet", "model.weights=random"),
    *("+model.kwargs.num_classes=10177", "players=patch2", "methods=[moxi_insertion,random_0]"),
    *("target=label", "tracking=disabled", "cluster.actors=1", "dataset.slice=0/1"),
    "out=runs/${dataset.name}",
)
LABELS = {
    "cub": {
        "001.Black_footed_Albatross/Black_footed_Albatross_0001_1": 0,
        "002.Laysan_Albatross/Laysan_Albatross_0001_1": 1,
        "003.Sooty_Albatross/Sooty_Albatross_0001_1": 2,
    },
    "celeba": {"000003": 2879},
    "folder": {"cat/1": 0, "cat/more/2": 0, "dog/1": 1},
}
"""What the splits for testing hold."""


@pytest.mark.parametrize(
    "name",
    ["folder", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cub", "celeba"))],
)
def test_data_sets_differ_in_nothing_but_their_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of workers, whose folder is this one too
    monkeypatch.setenv("PIXEL_QUORUM_CACHE", str(tmp_path / "cache"))
    {"cub": layouts.cub, "celeba": layouts.celeba, "folder": layouts.pets}[name](tmp_path / "raw")
    source = ["source=image_folder"] if name == "folder" else []
    pack.job(pack.settings([f"dataset={name}", "images=raw", *source]))
    settings = evaluate.settings([f"dataset={name}", *SAME])
    assert settings["dataset"]["shards"] == f"data/{name}"
    job("evaluate", f"dataset={name}", *SAME, cwd=tmp_path)
    rows = RunDir(f"runs/{name}", CURVES).read().to_pylist()
    assert {(r["status"], r["error"]) for r in rows} == {("ok", None)}
    assert {r["key"]: r["label"] for r in rows} == LABELS[name]
    assert {r["dataset"] for r in rows} == {name} and len(rows) == 3 * len(LABELS[name])
    assert all(r["target"] == r["label"] for r in rows)
    manifest = json.loads((tmp_path / f"data/{name}/manifest.json").read_text())
    split = settings["dataset"]["split"] or ""
    of_split = {shard["name"] for shard in manifest["shards"] if shard["split"] == split}
    assert {r["shard"] for r in rows} == of_split
