"""What W&B gets of findings, whatever study they come from."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
from synthetic import curve, made, seal

from pipeline import UsageError, studies, tracking
from pipeline.engine import Counters
from pipeline.rows import RunDir
from pipeline.statistics import Band
from pipeline.studies import Chart, Findings
from pipeline.studies.curves.rows import CURVES

OFFLINE = {"mode": "offline", "project": "p", "entity": None, "group": None, "tags": []}
SETTINGS = {"subset": "all", "grid": 3, "resamples": 20, "confidence": 0.95, "seed": 0}


class Recorder:
    """Takes what a run would be given."""

    def __init__(self):
        self.summary, self.logged, self.steps = {}, [], {}

    def define_metric(self, name, step_metric=None):
        self.steps[name] = step_metric

    def log(self, values):
        self.logged.append(values)


def test_any_findings_become_histories_plots_a_table_and_numbers(tmp_path):
    lines = {
        title: Band(mean_G=base + np.arange(2), low_G=base - np.ones(2), high_G=base + np.ones(2))
        for title, base in (("one", 0.0), ("two, grid7", 5.0))
    }
    kwargs = {"axis": "depth", "x_G": np.array([0.0, 2.0]), "lines": lines}
    charts = [Chart(name="sky", quantity=quantity, **kwargs) for quantity in ("blue", "red")]
    found = Findings(
        run=RunDir(str(tmp_path), CURVES),
        name="birds",
        summary=[{"title": "one", "n": 3}, {"title": "two, grid7", "more": 1.5}],
        table="",
        section=None,
        charts=charts,
        numbers={"one/size": 2.0},
    )
    run = Recorder()
    tracking.log_findings(run, found)
    assert run.steps == {"depth": None, "curve/sky/*": "depth"}
    history = [values for values in run.logged if "depth" in values]
    assert [values["depth"] for values in history] == [0, 2]
    assert history[1]["curve/sky/two, grid7/blue"] == 6
    assert history[1]["curve/sky/one/red_low"] == -1
    assert len(history[0]) == 1 + 2 * 2 * 3
    plots = {name for values in run.logged for name in values if name.startswith("overview/")}
    assert plots == {"overview/sky/blue", "overview/sky/red"}
    (table,) = [values["birds"] for values in run.logged if "birds" in values]
    assert table.columns == ["title", "n", "more"]
    assert table.data == [["one", 3, None], ["two, grid7", None, 1.5]]
    assert run.summary == {"one/size": 2.0}


def test_an_offline_run_holds_curves_and_refers_to_results(tmp_path, monkeypatch):
    seen, finish = {}, wandb.Run.finish

    def look(run, *args, **more):
        seen.update(summary=dict(run.summary), config=dict(run.config))
        finish(run, *args, **more)

    monkeypatch.setattr(wandb.Run, "finish", look)
    parts = [
        ([curve(k, f, model=model) for k in "ab"], made(f))
        for f, model in (("f", "resnet18.a1_in1k"), ("g", "resnet18.tv_in1k"))
    ]
    place = seal(tmp_path / "run", *parts)
    place.write(place.path("wandb-runs", "abc.json"), json.dumps({"id": "abc"}).encode())
    settings = SETTINGS | {"out": place.out, "tracking": OFFLINE}
    found = studies.findings(settings)
    tracking.log_aggregation(settings, found)
    summary = seen["summary"]
    for release in ("a1_in1k", "tv_in1k"):
        name = f"insertion/moxi, resnet18.{release}"
        assert summary[f"{name}/auc_probability_low"] <= summary[f"{name}/auc_probability"]
        assert f"curve/{name}/probability_high" in summary
    assert {"summary", "overview/insertion/probability"} <= {
        k.removesuffix("_table") for k in summary
    }
    assert seen["config"]["evaluation_runs"] == ["abc"]
    assert len(seen["config"]["evaluations"]) == 2
    assert list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))


def test_what_goes_wrong_with_tracking_is_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(**more):
        raise OSError("no network")

    monkeypatch.setattr(wandb, "init", refuse)
    place = seal(tmp_path / "run", ([curve("a", "f")], made("f")))
    settings = SETTINGS | {"out": place.out, "tracking": OFFLINE}
    tracking.log_aggregation(settings, studies.findings(settings))
    assert "nothing tracked, results are complete on disk: no network" in caplog.text


def test_artifact_names_are_legal():
    assert tracking._safe("results-a b/c") == "results-a_b_c"


def test_online_without_a_key_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    online = {"tracking": OFFLINE | {"mode": "online"}}
    with pytest.raises(UsageError, match=r"^tracking=online: .* wandb login"):
        tracking.check(online)
    tracking.check({"tracking": OFFLINE})
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    tracking.check(online)


def test_the_engines_seconds_do_not_hide_the_runs(tmp_path, monkeypatch):
    run = SimpleNamespace(summary={}, id="abc")
    monkeypatch.setattr(tracking, "_tracked", lambda settings, kind, config, log: log(run))
    spent = Counters(forwards=7, seconds=1.5)
    done = SimpleNamespace(images=1, computed=1, failed_rows=0, seconds=9.0, counters=spent)
    tracking.log_evaluation({"out": str(tmp_path)}, done)
    assert run.summary["seconds"] == 9 and run.summary["engine_seconds"] == 1.5
    assert run.summary["engine_forwards"] == 7
