"""What trackers are told, read back with W&B's own reader; no server, no Ray."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
from conftest import encode, write_tar
from PIL import Image
from synthetic import curve, made, seal

from pipeline import UsageError, statistics, studies, tracking
from pipeline.engine import Counters
from pipeline.statistics import Band
from pipeline.studies import Chart
from pipeline.tracking import charts, described, records
from pipeline.tracking.live import Follower

OFFLINE = {
    "mode": "offline",
    "project": "p",
    "entity": "team",
    "group": None,
    "tags": ["nightly"],
    "samples": 1,
}
AGGREGATE = {"subset": "all", "grid": 3, "resamples": 20, "confidence": 0.95, "seed": 0}
TOLD = {
    "state": "running",
    "done": 1,
    "in_flight": 1,
    "share": 0.5,
    "forwards_per_s": 7.5,
    "failed_rows": 1,
    "actors": [{"images_per_s": 0.25}, {"images_per_s": 0.5}],
    "seconds": 3.5,
}
OUTCOME = SimpleNamespace(
    images=2, computed=2, failed_rows=1, seconds=9.0, counters=Counters(forwards=7, seconds=1.5)
)


def inspected(run: Path) -> dict:
    """A .wandb file as `wandb leet inspect` reads it: records by type, and the final state."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
    (path,) = run.glob("*.wandb")
    lines = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    state = subprocess.run(
        [*command, "--summary", str(path)], capture_output=True, text=True, check=True
    )
    found: dict = {"state": json.loads(state.stdout), "folder": run}
    for record in map(json.loads, lines.stdout.splitlines()):
        found.setdefault(record["type"], []).append(record[record["type"]])
    return found


def evaluated(out: Path, settings: dict) -> None:
    """An evaluation that works for a moment."""
    with tracking.Evaluation(settings) as tracked:
        (out / "progress.json").write_text(json.dumps(TOLD))
        tracked.tell(OUTCOME)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory of two images that exist, evaluated and aggregated offline, twice."""
    folder = tmp_path_factory.mktemp("tracked")
    picture = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    members = {f"{key}.png": encode(picture, "PNG") for key in "ab"}
    data = made("")["config"]["dataset"] | {"shards": str(write_tar(folder / "s.tar", members))}
    data |= {"label": "cls", "class_names": None, "keys": None, "limit": None, "seed": None}
    data |= {"exif": False}
    parts = []
    for method in ("moxi", "grad, cam"):
        rows = [
            curve(k, f"{method}1", method, objective=objective)
            for k in "ab"
            for objective in ("insertion", "deletion")
        ]
        parts.append((rows, made(f"{method}1", method, dataset=data)))
    place = seal(folder / "run", *parts)
    config = parts[0][1]["config"] | {"out": place.out, "tracking": OFFLINE}
    config["model"] = config["model"] | {"kwargs": {"api_key": "hush"}}
    settings = AGGREGATE | {"out": place.out, "tracking": OFFLINE}
    found = studies.findings(settings)
    for one in found:
        statistics.save(place, one.name, one.summary)
    place.write(place.path("report", "index.html"), b"<html>")
    for _ in range(2):
        evaluated(folder / "run", config)
        tracking.log_aggregation(settings, found)
    runs = [inspected(path) for path in sorted((folder / "run").glob("wandb/offline-run-*"))]
    return SimpleNamespace(place=place, config=config, settings=settings, found=found, runs=runs)


@pytest.fixture(scope="module")
def evaluation(run):
    return next(one for one in run.runs if one["run"][0]["job_type"] == "evaluate")


@pytest.fixture(scope="module")
def aggregation(run):
    return next(one for one in run.runs if one["run"][0]["job_type"] == "aggregate")


def items(one: dict) -> list[dict]:
    return [record["item"] for record in one["history"]]


def table(one: dict, key: str) -> dict:
    """A table that a run has logged, from the file that it names."""
    return json.loads((one["folder"] / "files" / one["state"]["summary"][key]["path"]).read_text())


def test_an_evaluation_can_be_watched_and_says_what_it_spent(run, evaluation):
    about = evaluation["run"][0]
    assert about["run_id"] == described.evaluation(run.config)
    assert (about["project"], about["run_group"]) == ("p", "run")
    assert about["tags"] == ["nightly"] and about["entity"] == "team"
    config = evaluation["state"]["config"]
    assert config["players"]["grid"] == 2 and "tracking" not in config
    assert config["model"] == run.config["model"] | {"kwargs": {"api_key": "***"}}
    (live,) = [item for item in items(evaluation) if "run/images" in item]
    assert live["run/images"] == 1 and live["run/failed_rows"] == 1
    assert live["run/images_per_s"] == 0.75 and live["run/seconds"] == 3.5
    assert {"glob_name": "run/*", "step_metric": "run/seconds"}.items() <= (
        evaluation["metric"][0].items()
    )
    summary = evaluation["state"]["summary"]
    assert (summary["seconds"], summary["engine_seconds"]) == (9, 1.5)
    assert (summary["images"], summary["failed_rows"], summary["engine_forwards"]) == (2, 1, 7)


def test_every_curve_is_there_with_its_interval(run, aggregation):
    (found,) = run.found
    assert {(c.name, c.quantity) for c in found.charts} == {
        (objective, quantity)
        for objective in ("insertion", "deletion")
        for quantity in ("probability", "top1")
    }
    history = [item for item in items(aggregation) if "fraction" in item]
    assert [item["fraction"] for item in history] == [0, 0.5, 1]
    shown = {name: v for record in aggregation["config"] for name, v in record["update"].items()}
    for chart in found.charts:
        key = f"curves/{chart.name}/{chart.quantity}"
        panel = shown[f"_wandb.visualize.{key}"]["panel_config"]
        assert panel["panelDefId"] == "team/pixel-quorum-curves"
        assert panel["stringSettings"]["yname"] == chart.quantity
        drawn = table(aggregation, f"Custom Chart Tables/{key}_table")
        assert set(panel["fieldSettings"].values()) == set(drawn["columns"])
        expected = []
        for title, band in chart.lines.items():
            for i, x in enumerate(chart.x_G):
                values = [float(v[i]) for v in (band.mean_G, band.low_G, band.high_G)]
                expected.append([x, title, *values])
                name = f"curve/{chart.name}/{title}/{chart.quantity}"
                sides = [history[i][f"{name}{side}"] for side in ("", "_low", "_high")]
                assert sides == pytest.approx(values)
        assert drawn["data"] == expected


def test_tables_hold_numbers_photographs_and_orders(run, aggregation):
    (found,) = run.found
    summary = table(aggregation, "summary")
    rows = [dict(zip(summary["columns"], row, strict=True)) for row in summary["data"]]
    assert [row["title"] for row in rows] == [row["title"] for row in found.summary]
    assert [row["auc_probability"] for row in rows] == [
        pytest.approx(row["auc_probability"]) for row in found.summary
    ]
    kept = next(a for a in aggregation["artifact"] if "summaryimages" in a["name"])
    pictures = {entry["path"]: entry for entry in kept["manifest"]["contents"]}
    images = json.loads(Path(pictures["summary/images.table.json"]["local_path"]).read_text())
    rows = [dict(zip(images["columns"], row, strict=True)) for row in images["data"]]
    assert Counter((row["key"], row["method"], row["objective"]) for row in rows) == Counter(
        ("a", title, objective)
        for title in ("moxi", "grad, cam")
        for objective in ("insertion", "deletion")
    )
    for row in rows:
        assert sorted(map(int, row["order"].split(", "))) == [0, 1, 2, 3]
        assert row["photograph"]["path"] in pictures and row["order drawn"]["path"] in pictures
        assert row["photograph"]["width"] == 8


def test_numbers_say_which_way_is_better_and_panels_are_few(run, aggregation):
    (found,) = run.found
    summary = aggregation["state"]["summary"]
    assert len(found.numbers) == 2 * 2 * 2 * 3
    for name, value in found.numbers.items():
        told = summary[name]
        if name in found.aims:
            told = told[found.aims[name]]
            assert found.aims[name] == ("max" if name.startswith("insertion/") else "min")
        assert told == pytest.approx(value)
    assert not any(name.startswith("curve/") or name == "fraction" for name in summary)
    hidden = [metric for metric in aggregation["metric"] if metric["options"].get("hidden")]
    names = {metric.get("name", metric.get("glob_name", "")) for metric in hidden}
    keys = {key for item in items(aggregation) for key in item if key[0] != "_"}
    panels = {
        key.partition("._")[0].partition(".")[0]
        for key in keys
        if not any(key == n or (n.endswith("*") and key.startswith(n[:-1])) for n in names)
    }
    assert panels == {
        "summary",
        "summary/images",
        *(f"Custom Chart Tables/curves/{c.name}/{c.quantity}_table" for c in found.charts),
    }


def test_artifacts_refer_to_results_and_report_and_know_each_other(run, evaluation, aggregation):
    (rows,) = evaluation["artifact"]
    assert rows["type"] == "rows"
    assert {entry["ref"] for entry in rows["manifest"]["contents"]} == {
        f"file://{run.place.path('results', part)}" for part in run.place.sealed()
    }
    (report,) = [made for made in aggregation["artifact"] if made["type"] == "report"]
    files = {entry["path"]: entry["ref"] for entry in report["manifest"]["contents"]}
    assert set(files) == {"report/index.html", "summary.parquet", "summary.csv"}
    assert files["report/index.html"] == f"file://{run.place.path('report', 'index.html')}"
    assert aggregation["state"]["config"]["evaluation_runs"] == [evaluation["run"][0]["run_id"]]
    (record,) = [one for one in records.read(run.place) if one.job == "aggregate"]
    assert record.artifact == report["name"] and list(record.uses) == [rows["name"]]


def test_the_same_again_is_the_same_run_and_aggregations_compare(run, evaluation, aggregation):
    jobs = Counter(one["run"][0]["job_type"] for one in run.runs)
    assert jobs == {"evaluate": 2, "aggregate": 1}  # offline runs of one id do not merge
    id = described.evaluation(run.config)
    ids = {one["run"][0]["run_id"] for one in run.runs if one["run"][0]["job_type"] == "evaluate"}
    assert ids == {id, f"{id}-2"}
    elsewhere = run.config | {"cluster": {"actors": 9}, "tracking": {}, "max_failed": 1}
    assert described.evaluation(elsewhere) == id
    assert described.evaluation(run.config | {"target": "label"}) != id
    both = [one["state"]["config"] for one in (evaluation, aggregation)]
    assert both[0]["players"] == both[1]["players"] and both[0]["masking"] == both[1]["masking"]
    assert both[1]["aggregate"]["resamples"] == 20


class Told:
    """A tracker that keeps what it is told."""

    opened: list = []

    def __init__(self, settings, job, id, config):
        self.job, self.id, self.config, self.heard = job, id, config, []
        Told.opened.append(self)

    def __getattr__(self, name):
        return lambda *given, **more: self.heard.append((name, *given))


def test_online_the_aggregation_goes_on_with_the_evaluation_s_run(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_tracker", Told)
    monkeypatch.setattr(Told, "opened", [])
    place = seal(tmp_path / "run", ([curve(k, "f") for k in "ab"], made("f")))
    online = OFFLINE | {"mode": "online"}
    config = made("f")["config"] | {"out": place.out, "tracking": online}
    settings = AGGREGATE | {"out": place.out, "tracking": online}
    evaluated(tmp_path / "run", config)
    for more in ({}, {}, {"resamples": 30}):
        tracking.log_aggregation(settings | more, studies.findings(settings | more))
    evaluated(tmp_path / "run", config)
    first, resumed, other, again = Told.opened
    assert first.id == resumed.id == again.id != other.id
    assert [name for name, *_ in first.heard] == ["progress", "numbers", "artifact", "close"]
    assert resumed.heard[-2][-1] == [] and other.heard[-2][-1] == [first.heard[2][1]]


def test_a_run_that_fails_ends_as_failed_and_nothing_computed_is_nothing_told(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tracking, "_tracker", Told)
    monkeypatch.setattr(Told, "opened", [])
    settings = {"out": str(tmp_path), "tracking": OFFLINE}
    (tmp_path / "progress.json").write_text(json.dumps(TOLD))  # an earlier run's
    with tracking.Evaluation(settings) as tracked:
        tracked.tell(SimpleNamespace(computed=0))
    assert not Told.opened
    closed = []
    monkeypatch.setattr(Told, "close", lambda self, failed: closed.append(failed), raising=False)

    def fail():
        with tracking.Evaluation(settings):
            (tmp_path / "progress.json").write_text(json.dumps(TOLD | {"done": 2}))
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert closed == [True] and Told.opened[0].heard[0][1]["done"] == 2


def test_what_goes_wrong_with_tracking_is_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(**more):
        raise OSError("no network")

    monkeypatch.setattr(wandb, "init", refuse)
    place = seal(tmp_path / "run", ([curve("a", "f")], made("f")))
    settings = AGGREGATE | {"out": place.out, "tracking": OFFLINE}
    tracking.log_aggregation(settings, studies.findings(settings))
    assert "nothing tracked, results are complete on disk: no network" in caplog.text
    evaluated(tmp_path / "run", settings)
    assert "nothing more is tracked, results are not touched: no network" in caplog.text
    assert not records.read(place)


def test_a_verdict_that_is_no_pass_is_an_alert(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_tracker", Told)
    monkeypatch.setattr(Told, "opened", [])
    told = {"kind": "auc", "subject": "moxi", "mean": 0.1, "low": 0.0, "high": 0.2, "word": "ok"}
    verdict = {"verdict": "pass", "images": 3, "needed": 9, "quantities": [told]}
    verdict |= {"baseline": "b", "checkpoint": "c"}
    settings = {"out": str(tmp_path), "tracking": OFFLINE}
    for word in ("pass", "regression", "inconclusive"):
        lines = [f"it is a {word}", "because"]
        tracking.log_verdict(settings, verdict | {"verdict": word}, lines)
    alerts = [heard for one in Told.opened for heard in one.heard if heard[0] == "alert"]
    assert alerts == [
        ("alert", "it is a regression", "because", "ERROR"),
        ("alert", "it is a inconclusive", "because", "WARN"),
    ]
    assert Told.opened[0].heard[0][1]["auc/moxi_low"] == 0.0
    tracking.log_cell(settings, {"masking": "zero"}, {"moxi": 0.5})
    assert Told.opened[-1].config == {"sweep": {"masking": "zero"}}


def test_a_follower_tells_what_is_new_once(tmp_path):
    heard = []
    follower = Follower(str(tmp_path), heard.append, every_s=0.01)
    follower.start()
    for done in (1, 2):
        (tmp_path / "progress.json").write_text(json.dumps({"done": done}))
        while len(heard) < done:
            assert follower.is_alive()
    assert follower.leave() and heard == [{"done": 1}, {"done": 2}]


def test_settings_of_several_evaluations_become_those_of_one():
    one = {"players": {"grid": 7}, "masking": {"_target_": "Zero"}, "tags": [1]}
    other = {"players": {"grid": 14}, "masking": {"_target_": "Blur", "sigma": 3}, "tags": [1]}
    assert described.merged([one, other]) == {
        "players": {"grid": "7, 14"},
        "masking": {"_target_": "Zero, Blur", "sigma": 3},
        "tags": [1],
    }
    assert dict(described.flat(one)) == {"players.grid": 7, "masking._target_": "Zero", "tags": [1]}


def test_charts_stay_below_w_and_b_s_limit_and_the_preset_reads_their_columns():
    x_G = np.linspace(0, 1, 101)
    line = Band(mean_G=x_G, low_G=x_G, high_G=x_G)
    chart = Chart(
        name="a", quantity="b", axis="c", x_G=x_G, lines={f"line {i}": line for i in range(150)}
    )
    drawn = charts.drawn(chart, None)
    assert drawn.spec.spec_name == charts.PLAIN
    assert 7_000 < len(drawn.table.data) <= charts.MOST_ROWS
    assert {row[0] for row in drawn.table.data} >= {0.0, 1.0}
    fields = set(re.findall(r"\$\{field:(\w+)\}", json.dumps(charts.SPEC)))
    strings = set(re.findall(r"\$\{string:(\w+)\}", json.dumps(charts.SPEC)))
    assert fields == set(charts.COLUMNS) == set(drawn.spec.fields)
    assert strings == set(drawn.spec.string_fields)


def test_artifact_names_are_legal():
    assert tracking._safe("results-a b/c") == "results-a_b_c"


def test_what_cannot_work_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    online = {"tracking": OFFLINE | {"mode": "online"}}
    with pytest.raises(UsageError, match=r"^tracking=online: .* wandb login"):
        tracking.check(online)
    tracking.check({"tracking": OFFLINE})
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    tracking.check(online)
    board = {"tracking": OFFLINE | {"mode": "tensorboard"}, "out": "memory://x"}
    with pytest.raises(UsageError, match=r"^tracking=tensorboard: out=memory://x is a store"):
        tracking.check(board)
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'pixel-quorum\[tensorboard\]'"):
        tracking.check(board)
