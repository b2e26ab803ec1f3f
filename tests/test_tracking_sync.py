"""Offline runs are uploaded once, wherever they lie; TensorBoard reads back what it was told."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
import wandb
from synthetic import curve, made, seal
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline import RunError, UsageError, studies, tracking
from pipeline.rows import Storage
from pipeline.tracking import charts, records
from pipeline.tracking.records import Record
from pipeline.tracking.sync import sync


class Server:
    """Stands for `wandb sync`, which marks what it has uploaded, and for W&B's API."""

    def __init__(self, monkeypatch):
        self.uploaded, self.linked, self.takes = [], [], lambda name: True
        monkeypatch.setattr(wandb, "api", SimpleNamespace(api_key="0" * 40))
        monkeypatch.setattr(subprocess, "run", self.sync)
        monkeypatch.setattr(wandb, "Api", lambda: self)

    def sync(self, command, **more):
        assert command[1:4] == ["-m", "wandb", "sync"]
        for path in map(Path, command):
            for file in path.glob("*.wandb") if path.is_dir() else ():
                if self.takes(path.name):
                    self.uploaded.append(path.name)
                    file.with_suffix(".wandb.synced").touch()
        return SimpleNamespace(stdout="", stderr="wandb: no such project\n", returncode=1)

    def create_custom_chart(self, **more):
        raise wandb.Error("exists")

    def artifact(self, name):
        return name

    def run(self, path):
        return SimpleNamespace(use_artifact=lambda name: self.linked.append((path, name)))


@pytest.fixture(params=["folder", "store"])
def place(request, tmp_path):
    """A run directory with two offline runs, one of which stands on the other."""
    store = f"memory://{request.node.name.replace('[', '-').rstrip(']')}"
    place = Storage(str(tmp_path) if request.param == "folder" else store)
    for id in ("aa", "bb"):
        place.fs.makedirs(place.path("wandb", f"offline-run-1-{id}", "files"), exist_ok=True)
        place.fs.pipe_file(place.path("wandb", f"offline-run-1-{id}", f"run-{id}.wandb"), b"run")
        place.fs.pipe_file(place.path("wandb", f"offline-run-1-{id}", "files", "x"), b"x")
    records.write(place, Record(id="aa", artifact="rows-x"))
    records.write(place, Record(id="bb", job="aggregate", uses=["rows-x"]))
    yield place
    if request.param == "store":
        fsspec.filesystem("memory").rm(place.path(), recursive=True)


def test_runs_are_uploaded_once_and_linked(place, monkeypatch):
    server = Server(monkeypatch)
    settings = {"out": place.out, "project": "p", "entity": "team"}
    server.takes = lambda name: name.endswith("aa")
    with pytest.raises(RunError, match=r"^1 of 2 runs were not uploaded: no such project; run"):
        sync(settings)
    assert not server.linked
    server.takes = lambda name: True
    assert sync(settings) == (1, 1)
    assert sync(settings) == (0, 2)
    assert server.uploaded == ["offline-run-1-aa", "offline-run-1-bb"]
    assert server.linked == [("team/p/bb", "team/p/rows-x:latest")]


def test_lineage_that_fails_is_a_warning_and_no_run_a_usage_error(tmp_path, monkeypatch, caplog):
    server = Server(monkeypatch)
    settings = {"out": str(tmp_path), "project": "p", "entity": None}
    with pytest.raises(UsageError, match=r"no offline run there; jobs\.evaluate and"):
        sync(settings)
    folder = tmp_path / "wandb" / "offline-run-1-bb"
    folder.mkdir(parents=True)
    (folder / "run-bb.wandb").touch()
    records.write(Storage(str(tmp_path)), Record(id="bb", job="aggregate", uses=["gone"]))
    monkeypatch.setattr(wandb.api, "api_key", None)
    with pytest.raises(UsageError, match="wandb login"):
        sync(settings)
    monkeypatch.setattr(wandb.api, "api_key", "0" * 40)
    monkeypatch.setattr(server, "artifact", lambda name: 1 / 0)
    assert sync(settings) == (1, 0)
    assert "uploaded, but without lineage" in caplog.text


def test_a_preset_that_is_there_stays(monkeypatch):
    Server(monkeypatch)
    charts.publish("team")


def test_tensorboard_holds_curves_numbers_and_progress(tmp_path):
    place = seal(tmp_path / "run", ([curve(k, "f") for k in "ab"], made("f")))
    tracked = {"mode": "tensorboard", "samples": 0}
    settings = {"subset": "all", "grid": 3, "resamples": 20, "confidence": 0.95, "seed": 0}
    settings |= {"out": place.out, "tracking": tracked}
    found = studies.findings(settings)
    for _ in range(2):
        tracking.log_aggregation(settings, found)
    (folder,) = (tmp_path / "run" / "tensorboard").iterdir()
    board = EventAccumulator(str(folder)).Reload()
    (one,) = found
    for chart in one.charts:
        for title, band in chart.lines.items():
            name = f"{chart.name}/{chart.quantity}/{title}"
            assert [(e.step, e.value) for e in board.Scalars(name)] == [
                (round(100 * x), pytest.approx(y))
                for x, y in zip(chart.x_G, band.mean_G, strict=True)
            ]
            assert len(board.Scalars(f"{name}/low")) == len(board.Scalars(f"{name}/high")) == 3
    for name, value in one.numbers.items():
        assert board.Scalars(name)[0].value == pytest.approx(value)
    assert "summary/text_summary" in board.Tags()["tensors"]
    assert not (tmp_path / "run" / records.FOLDER).exists()
