"""A question that ends a run, asked of rows as they come; and of finished runs."""

import json
import threading
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import write_tar
from processes import job
from synthetic import curve, made, seal

from jobs import decide
from pipeline import UsageError
from pipeline.data.shards import Shards
from pipeline.rows import RunDir, Writer
from pipeline.rows.writer import register
from pipeline.studies.curves.rows import CURVES
from pipeline.workers.schedule import Span
from pipeline.workers.until import Until

KEYS = [f"{i:03}" for i in range(120)]
ASKED = {
    "method": "moxi",
    "against": "gradcam",
    "objective": "insertion",
    "quantity": "auc_probability",
    "margin": 0.0,
    "alpha": 0.05,
    "seed": 3,
}


def row(key: str, method: str, mean: float, **more) -> dict:
    rng = np.random.default_rng([int(key), *method.encode()])
    area = float(np.clip(mean + 0.1 * rng.normal(), 0, 1))
    return curve(key, method, method, auc_probability=area) | more


def pair(key: str, gap: float = 0.2, **more) -> list[dict]:
    return [row(key, "moxi", 0.5 + gap, **more), row(key, "gradcam", 0.5)]


PRINTS = {"fingerprints": {"moxi": "moxi", "gradcam": "gradcam"}}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_tar(folder / "s.tar", {f"{key}.jpg": b"x" for key in KEYS})
    return SimpleNamespace(
        data=Shards(name="toy", shards=f"{folder}/s.tar"),
        fingerprints={"moxi": "moxi", "gradcam": "gradcam"},
        wanted=[("moxi", "insertion"), ("gradcam", "insertion")],
    )


def until(out, work, **asked) -> Until:
    stop = SimpleNamespace(reason=None)
    return Until(RunDir(str(out), CURVES), work, ASKED | asked, stop)  # type: ignore[arg-type]


def test_images_are_begun_in_an_order_that_is_random_and_always_the_same(tmp_path, work):
    one = until(tmp_path, work)
    backlog = Mock(complete=False, place=lambda image: ("s.tar", KEYS[image[1]]))
    backlog.take.return_value = [Span(0, 0, 70), Span(0, 70, 120)]
    assert one.take(backlog) == []  # the first image may be one that is not known yet
    backlog.complete = True
    spans = one.take(backlog)
    assert sorted(span.start for span in spans) == list(range(120))
    assert all(span.size == 1 for span in spans) and spans != sorted(spans)
    one.look()
    assert [KEYS[span.start] for span in spans] == [key for _, _, key in one._order]


def test_rows_count_as_soon_as_they_are_staged_and_only_without_a_gap(tmp_path, work):
    run, one = RunDir(str(tmp_path / "run"), CURVES), until(tmp_path / "run", work)
    one.look()
    order = [key for _, _, key in one._order]
    writer = Writer(run, register(run), made("x") | PRINTS)
    writer.stage([r for key in order[1:40] for r in pair(key)])
    assert one.look().n == 0  # the first image lacks its rows: what is quick would come first
    writer.stage(pair(order[0]))
    found = one.look()
    assert found.verdict == "better" and found.n < 40 and one.reason == "until=decided"
    writer.close()
    later = until(tmp_path / "run", work)
    assert later.end() == found  # sealed rows say the same
    told = json.loads((tmp_path / "run" / "decision.json").read_text())
    assert (told["verdict"], told["n"], told["total"], told["seed"]) == ("better", found.n, 120, 3)


def test_a_pair_that_failed_counts_as_no_difference(tmp_path, work):
    rows = [r for key in KEYS for r in pair(key, status="failed" if key < "060" else "ok")]
    seal(tmp_path / "run", (rows, made("x") | PRINTS))
    one = until(tmp_path / "run", work)
    found = one.end()
    assert 0.1 - 0.05 < found.difference < 0.2
    assert json.loads((tmp_path / "run" / "decision.json").read_text())["failed"] == 60


def test_it_watches_by_itself(tmp_path, work, monkeypatch):
    monkeypatch.setattr("pipeline.workers.until.LOOK_S", 0.01)
    one = until(tmp_path / "run", work)
    assert one.reason is None
    one.begin()
    seal(tmp_path / "run", ([r for key in KEYS for r in pair(key)], made("x") | PRINTS))
    one._thread.join(timeout=30)
    assert one.decided and threading.active_count() >= 1


def test_a_method_that_does_not_run_is_refused(tmp_path, work):
    with pytest.raises(UsageError, match=r"until.against=rise: methods= has no such method"):
        until(tmp_path, work, against="rise")


def finished(out, gap=0.2):
    return seal(out, ([r for key in KEYS for r in pair(key, gap)], made("x") | PRINTS))


def settings(out, *more: str) -> dict:
    return decide.main.settings([f"out={out}", "method=moxi", "against=gradcam", *more])


def test_a_finished_run_says_on_how_many_images_it_was_decided(tmp_path, capsys):
    finished(tmp_path / "run")
    decide.main.job(settings(tmp_path / "run", "orders=20"))
    said = capsys.readouterr().out
    assert said.startswith("moxi against gradcam, insertion: decided on ")
    assert "in 20 random orders: " in said and "better 20" in said
    told = json.loads((tmp_path / "run" / "decision.json").read_text())
    assert len(told["orders"]["n"]) == 20 and max(told["orders"]["n"]) < 60
    decide.main.job(settings(tmp_path / "run", "margin=0.5"))
    assert "equal within 0.5" in capsys.readouterr().out


def test_deletion_turns_the_sign(tmp_path, capsys):
    rows = [r | {"objective": "deletion"} for key in KEYS for r in pair(key)]
    seal(tmp_path / "run", (rows, made("x") | PRINTS))
    decide.main.job(settings(tmp_path / "run", "objective=deletion"))
    assert ": worse; difference -" in capsys.readouterr().out


def test_what_cannot_be_asked_is_said_in_a_line(tmp_path):
    out = finished(tmp_path / "run").out
    wrong = decide.main.settings([f"out={out}", "method=moxie", "against=gradcam"])
    with pytest.raises(UsageError, match="method=moxie: no rows of it; use one of moxi"):
        decide.main.job(wrong)
    twice = [r | {"fingerprint": "other"} for key in KEYS[:2] for r in pair(key)]
    seal(tmp_path / "run", (twice, made("x") | PRINTS))
    with pytest.raises(UsageError, match="several settings"):
        decide.main.job(settings(tmp_path / "run"))


@pytest.mark.slow
def test_a_real_run_ends_when_it_is_decided(tmp_path, demo_shards):
    """A search against a random order on the demo's eight photographs."""
    overrides = (
        *("dataset=demo", f"dataset.shards={demo_shards}", f"out={tmp_path / 'run'}"),
        *("players=patch14", "players.grid=4", "tracking=disabled", "cluster.actors=1"),
        *("methods=[moxi_insertion,random_0]", "engine.images_in_flight=1"),
        *("until=decided", "until.method=moxi_insertion", "until.against=random_0"),
        *("until.alpha=0.9",),
    )
    first = job("evaluate", *overrides)
    told = json.loads((tmp_path / "run" / "decision.json").read_text())
    assert f"decided on {told['n']} of 8 images: better" in first.stdout
    again = job("evaluate", *overrides)
    assert "decided on" in again.stdout and "are there; computing" not in again.stdout
