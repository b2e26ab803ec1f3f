"""Baselines, quantities, mass in boxes, what is told of a night, history, W&B: on made-up rows."""

import json
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import wandb
from conftest import encode, write_tar
from PIL import Image
from synthetic import curve, made, seal

from pipeline import UsageError, tracking
from pipeline.compare.drift import drift
from pipeline.compare.matching import matched
from pipeline.reevaluation import baselines, history
from pipeline.reevaluation.mass import with_mass
from pipeline.reevaluation.night import Night
from pipeline.reevaluation.quantities import quantities
from pipeline.reevaluation.verdicts import Rule, decide
from pipeline.studies.curves.rows import CURVES
from pipeline.work import SCHEMA_VERSION

RULE = Rule(confidence=0.95, resamples=100, seed=0, power=0.8)
TOLERANCE = {"auc": 0.02, "orders": 0.2, "flips": 0.05, "moved": 0.05}
N = 12


def run(out, fingerprint, **more):
    rows = [curve(f"{i:02}", fingerprint, **more) for i in range(N)]
    return seal(out, (rows, made(fingerprint) | {"schema_version": SCHEMA_VERSION}))


def test_a_name_points_at_a_run_and_at_rows_of_one_way(tmp_path):
    place, out = str(tmp_path / "names"), tmp_path / "run"
    one = baselines.baseline(run(out, "f", model="v1", weights="ab"), {}, "main")
    assert (one.fingerprints, one.images, one.model) == ({"moxi": "f"}, N, "v1")
    baselines.promote(place, one, str(out))
    run(out, "g", model="v2", weights="cd")
    known = baselines.found(place, "main", CURVES, {})
    assert replace(known, promoted="") == one and known.promoted
    with pytest.raises(UsageError, match=r"model is v1, v2; choose one with \+where.model="):
        baselines.found(place, str(out), CURVES, {})
    assert baselines.found(place, str(out), CURVES, {"model": "v2"}).fingerprints == {"moxi": "g"}
    with pytest.raises(UsageError, match=r"baseline=mian: neither a name in .* \(main\) nor a run"):
        baselines.found(place, "mian", CURVES, {})
    with pytest.raises(UsageError, match="give a name of letters"):
        baselines.promote(place, replace(one, name="a/b"), str(out))
    (tmp_path / "names" / "bad.json").write_text("{}")
    with pytest.raises(UsageError, match=r"bad.json is no baseline"):
        baselines.found(place, "bad", CURVES, {})


def test_settings_are_those_of_all_methods_and_refused_where_they_differ(tmp_path):
    now = {"schema_version": SCHEMA_VERSION}
    rise = {"rise": {"_target_": "pipeline.methods.rise.Rise"}}
    parts = [([curve("a", "f")], made("f") | now)]
    parts += [([curve("a", "r", "rise")], made("r", "rise", methods=rise) | now)]
    one = baselines.baseline(seal(tmp_path / "both", *parts), {}, "main")
    assert set(baselines.settings(one, CURVES, [])["methods"]) == {"moxi", "rise"}
    other = made("r", "rise", methods=rise, target="label") | now
    two = seal(tmp_path / "other", parts[0], ([curve("a", "r", "rise")], other))
    with pytest.raises(UsageError, match="target of main is not the same for all of its methods"):
        baselines.settings(baselines.baseline(two, {}, "main"), CURVES, [])
    old = seal(tmp_path / "old", ([curve("a", "f")], made("f") | {"schema_version": 1}))
    with pytest.raises(UsageError, match="made by a release whose rows mean something else"):
        baselines.settings(baselines.baseline(old, {}, "main"), CURVES, [])
    evil = made("f", judge={"_target_": "os.system"}) | now
    bad = seal(tmp_path / "evil", ([curve("a", "f")], evil))
    with pytest.raises(UsageError, match="not part of pipeline"):
        baselines.settings(baselines.baseline(bad, {}, "main"), CURVES, [])


def test_pinned_images_are_all_of_the_baselines(tmp_path):
    one = baselines.baseline(run(tmp_path, "f"), {}, "main")
    lines = baselines.pinned(one, CURVES).splitlines()
    assert lines == [f"s.tar {i:02}" for i in range(N)]


def decided(one, other, **more):
    rows = drift(matched(one, other, across=["model"]), 0.5)
    return [decide(q, RULE) for q in quantities(rows, TOLERANCE | more)]


def test_areas_orders_and_predictions_are_judged_apart(tmp_path):
    base = run(tmp_path / "base", "f", order=[0, 1, 2, 3], auc_probability=0.5)
    same = decided(base, base)
    assert [(v.kind, v.subject, v.word) for v in same] == [
        ("auc", "moxi, insertion", "pass"),
        ("orders", "moxi, insertion", "pass"),
        ("flips", "", "pass"),
    ]
    worse = run(tmp_path / "worse", "g", order=[3, 2, 1, 0], auc_probability=0.4, prediction=0)
    assert [v.word for v in decided(worse, base)] == ["regression"] * 3
    assert [round(v.mean, 6) for v in decided(worse, base)] == [0.1, 2.0, 1.0]
    better = run(tmp_path / "better", "h", order=[0, 1, 2, 3], auc_probability=0.6)
    assert [v.word for v in decided(better, base)] == ["pass", "pass", "inconclusive"]
    assert [v.kind for v in decided(better, base, flips=None, orders=None)] == ["auc"]


def test_deletion_is_worse_where_it_rises(tmp_path):
    one = run(tmp_path / "one", "f", objective="deletion", auc_probability=0.6)
    two = run(tmp_path / "two", "g", objective="deletion", auc_probability=0.5)
    assert decided(one, two)[0].mean == pytest.approx(0.1)
    assert decided(two, one)[0].mean == pytest.approx(-0.1)


def test_what_has_no_better_and_worse_counts_in_both_directions(tmp_path):
    bare = dict.fromkeys(("fraction", "probability", "top1", "auc_probability", "auc_top1", "flip"))
    one, two = (
        run(tmp_path / f, f, judge="sanity", measure="sanity", value=value, **bare)
        for f, value in (("f", 0.1), ("g", 0.4))
    )
    (found,) = (v for v in decided(one, two) if v.kind == "sanity")
    assert found.two_sided and found.word == "regression" and found.mean == pytest.approx(-0.3)


def test_mass_that_leaves_the_boxes_is_measured(tmp_path):
    """An object in the left half: 2 x 2 players, of which 0 and 2 lie there."""
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    members = {}
    for i in range(N):
        members[f"{i:02}.png"] = encode(Image.fromarray(pixels), "PNG")
        boxes = {"boxes": [[0, 0, 4, 8]]} if i else {"boxes": []}
        members[f"{i:02}.json"] = json.dumps(boxes).encode()
    shards = str(write_tar(tmp_path / "s.tar", members))
    data = {"_target_": "pipeline.data.shards.Shards", "name": "toy", "shards": shards}
    runs = [
        seal(
            tmp_path / f,
            ([curve(f"{i:02}", f, scores=scores) for i in range(N)], made(f, dataset=data)),
        )
        for f, scores in (("f", [1, 3, 0, -5]), ("g", [3, 1, 0, -5]))
    ]
    rows, notes = with_mass(
        drift(matched(*runs), 0.5), (runs[0], runs[1]), field="boxes", form="xyxy", plugins=[]
    )
    assert notes == []
    assert rows["inside"].to_pylist() == [None, *[0.25] * (N - 1)]
    assert rows["against_inside"].to_pylist() == [None, *[0.75] * (N - 1)]
    assert rows["moved"].to_pylist() == [None, *[0.5] * (N - 1)]
    (found,) = (q for q in quantities(rows, TOLERANCE) if q.kind == "moved")
    assert len(found.values_n) == N - 1 and decide(found, RULE).word == "regression"
    still, _ = with_mass(
        drift(matched(runs[0], runs[0]), 0.5),
        (runs[0],) * 2,
        field="boxes",
        form="xyxy",
        plugins=[],
    )
    assert still["moved"].to_pylist() == [None, *[0.0] * (N - 1)]


def night(base, checkpoint, verdicts, **more):
    return Night(
        baseline=base,
        checkpoint=checkpoint,
        verdicts=verdicts,
        images=N,
        **{"strict": False} | more,
    )


def test_people_and_machines_are_told_the_same(tmp_path):
    base, other = (run(tmp_path / f, f, auc_probability=a) for f, a in (("f", 0.5), ("g", 0.4)))
    pair = [baselines.baseline(one, {}, name) for one, name in ((base, "main"), (other, "new"))]
    said = night(*pair, decided(other, base), changed=["s.tar/03"])
    assert said.word == "regression" and "changed most: s.tar/03" in said.lines()
    record = json.loads(json.dumps(said.record(), allow_nan=False))
    assert [q["word"] for q in record["quantities"]] == [v.word for v in said.verdicts]
    suite = ElementTree.fromstring(said.junit())
    words = [v.word for v in said.verdicts]
    assert suite.get("failures") == str(words.count("regression"))
    assert len(suite.findall("testcase/failure")) == words.count("regression")
    assert len(suite.findall("testcase/skipped")) == words.count("inconclusive")
    strict = ElementTree.fromstring(replace(said, strict=True).junit())
    assert not strict.findall("testcase/skipped")
    assert said.markdown().startswith("# regression: timm")


def test_the_same_night_again_adds_nothing(tmp_path):
    place = str(tmp_path / "history")
    quantity = {"kind": "auc", "subject": "a, insertion", "tolerance": 0.02}
    quantity |= {"mean": 0.01, "low": 0.0, "high": 0.02}
    said = {"quantities": [quantity]}
    days = [f"2026-11-0{i}T00:00:00+00:00" for i in (1, 2, 3)]
    nights, new = history.keep(place, history.record({"sides": 1}, said, days[0]))
    assert new and history.trend(nights) == ""
    again, new = history.keep(place, history.record({"sides": 1}, said, days[1]))
    assert not new and [(n["first"], n["last"]) for n in again] == [(days[0], days[1])]
    other, new = history.keep(place, history.record({"sides": 2}, said, days[2]))
    assert new and [n["first"] for n in other] == [days[0], days[2]]
    picture = history.trend(other)
    assert picture.startswith("<svg") and picture == history.trend(other)
    (tmp_path / "history" / "x.json").write_text("[1]")
    with pytest.raises(UsageError, match=r"x.json is no record of a night"):
        history.read(place)


def test_wandb_has_the_numbers_and_an_alert_and_never_fails_a_night(tmp_path, monkeypatch):
    base, other = (run(tmp_path / f, f, auc_probability=a) for f, a in (("f", 0.5), ("g", 0.4)))
    pair = [baselines.baseline(one, {}, name) for one, name in ((base, "main"), (other, "new"))]
    said = night(*pair, decided(other, base))
    told = SimpleNamespace(summary={}, alerts=[], entity=None)
    told.finish = told.define_metric = lambda *what, **how: None
    told.config = SimpleNamespace(update=lambda *what, **how: None)
    told.alert = lambda **what: told.alerts.append(what)
    monkeypatch.setattr(wandb, "init", lambda **how: told)
    mode = {"mode": "offline", "project": "p", "entity": None, "group": None, "tags": []}
    settings = {"out": str(tmp_path / "g"), "tracking": mode}
    tracking.log_verdict(settings, said.record(), said.lines())
    assert told.summary["verdict"] == "regression"
    assert told.summary["auc/moxi, insertion"] == pytest.approx(0.1)
    (alert,) = told.alerts
    assert alert["level"] == "ERROR" and alert["title"].startswith("regression")

    def broken(**how):
        raise OSError("no network")

    monkeypatch.setattr(wandb, "init", broken)
    tracking.log_verdict(settings, said.record(), said.lines())
