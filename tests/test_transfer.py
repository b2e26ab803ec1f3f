"""Orders of one model judged on another: no search, the class of the order, addresses of both."""

import io
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, encode, write_tar
from PIL import Image
from processes import job
from shown import images

from jobs import aggregate, evaluate
from jobs import compact as compaction
from jobs import plan as planning
from pipeline import UsageError
from pipeline.build import provenance
from pipeline.engine import Engine
from pipeline.players.patch_grid import PatchGrid
from pipeline.rows import RunDir, Writer
from pipeline.rows.writer import register
from pipeline.studies import build
from pipeline.studies.curves.orders import located
from pipeline.studies.curves.rows import CURVES, ORDER_COLUMNS
from pipeline.verify import verify
from pipeline.workers.families import Selection
from pipeline.workers.line import Line
from pipeline.workers.resume import resumed

pytestmark = pytest.mark.usefixtures("one_thread")
A, B = "test_efficientnet", "test_resnet"
KEPT = (*ORDER_COLUMNS, "order_fingerprint", "target", "label", "content", "regions")
PRIOR = ("players=saliency_groups", "players.cells=2", "players.size=1")


def photograph(seed: int) -> bytes:
    pixels_HWC = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels_HWC).resize((160, 160), Image.Resampling.BICUBIC)
    return encode(image, "PNG")


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    members = {f"{key}.png": photograph(i) for i, key in enumerate("abc")}
    members |= {f"{key}.cls": b"3" for key in "abc"} | {"bad.png": b"no image", "bad.cls": b"3"}
    return write_tar(tmp_path_factory.mktemp("tars") / "s.tar", members)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIXEL_QUORUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def given(shard: Path, out, model: str, *overrides: str) -> list[str]:
    return [
        *("dataset.name=toy", f"dataset.shards={shard}", f"out={out}", "tracking=disabled"),
        *("model=timm", f"model.name={model}", "model.weights=random", "model.match=name"),
        *("+model.kwargs.num_classes=10", "players=patch2", "methods=[moxi_insertion,random_0]"),
        *overrides,
    ]


def settings(*arguments, **more) -> dict:
    return located(evaluate.main.settings(given(*arguments, **more)))


def run(settings: dict, retry: bool = False) -> tuple[RunDir, int, int]:
    """All that a run does but for Ray: its directory, rows that were missing, forwards."""
    work, place = build("curves", settings), RunDir(settings["out"], CURVES)
    work.check()
    selections = [Selection((0,), work.data.indexed())]
    backlog, stamps = resumed(place, {0: work}, selections, retry=retry, say=lambda text: None)
    backlog.scan(stamps.see)
    stamps.keep()
    writer = Writer(place, register(place), provenance(settings, work))
    engine = Engine(work.model)
    line = Line(
        *({0: work}, {}, engine, writer), in_engine=2, threads=1, deadline_s=60, fatal=pytest.fail
    )
    line.start()
    line.put(backlog.leases(backlog.take()))
    left, until = backlog.found.missing_images, time.monotonic() + 60
    while left and time.monotonic() < until:
        line.wait(low=10**6, patience_s=0.2)
        left -= len(line.report().done)
    line.close()
    return place, backlog.found.missing_rows, engine.counters.forwards


def by_place(place: RunDir, **where) -> dict[tuple[str, str, str], dict]:
    rows = [r for r in place.read().to_pylist() if all(r[k] == v for k, v in where.items())]
    found = {(r["key"], r["method"], r["objective"]): r for r in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def lender(shard, tmp_path_factory) -> RunDir:
    return run(settings(shard, tmp_path_factory.mktemp("lender"), A))[0]


def check_rows(before: dict, after: dict, model) -> None:
    """Orders and what they cost are those of the lender, curves those of the model that judges."""
    assert before.keys() == after.keys()
    for place, row in after.items():
        known = before[place]
        assert (row["model"], row["weights"]) == (model.name, model.weights_hash[:8])
        assert (row["order_model"], row["order_weights"]) == (known["model"], known["weights"])
        assert row["fingerprint"] != known["fingerprint"] and row["status"] == known["status"]
        if row["status"] == "ok":
            assert {c: row[c] for c in KEPT} == {c: known[c] for c in KEPT}
            check_curve(row, model)
        else:
            assert re.search(r"holds no order of .* of this image|not an image", row["error"])


def check_curve(row: dict, model) -> None:
    """As of images with players painted over, asked of the plain network."""
    image = Image.open(io.BytesIO(photograph("abc".index(row["key"]))))
    image_CHW = model.transform(image.convert("RGB"))
    regions_HW = PatchGrid(grid=2).cut(*model.input_hw)
    inserted = row["objective"] == "insertion"
    shown_GHW = torch.stack(
        [
            torch.isin(regions_HW, torch.tensor(row["order"][:k], dtype=torch.long)) == inserted
            for k in range(5)
        ]
    )
    with torch.inference_mode():
        p_GK = model.module(image_CHW * shown_GHW[:, None]).softmax(1)
    np.testing.assert_allclose(row["probability"], p_GK[:, row["target"]], atol=1e-5)
    assert row["prediction"] == int(p_GK[-1 if inserted else 0].argmax())
    assert row["top1"] == (p_GK.argmax(1) == row["target"]).tolist()


def test_orders_are_judged_on_another_model_without_a_search(shard, lender, tmp_path):
    there = settings(shard, tmp_path, B, f"orders={lender.out}")
    work = build("curves", there)
    place, missing, forwards = run(there)
    assert missing == 4 * 3
    assert forwards == 3 * (2 + 3 * 3)  # two end points, three points of each of three curves
    known = set(work.wanted)
    assert forwards == 3 * work.forwards(work.wanted, known) and not work.forwards(known, {})
    check_rows(by_place(lender), by_place(place), work.model)
    assert {r["evaluations"] for r in place.read().to_pylist()} == {10, 0, None}
    assert run(there)[1:] == (0, 0)
    blurred = there | {"curve_masking": {"_target_": "pipeline.masking.blur.Blur"}}
    assert run(blurred)[1:] == (12, 3 * (2 + 3 * 3))
    # each model's rows, in one directory, by their orders as well
    both = settings(shard, tmp_path / "both", A)
    run(both)
    own = run(settings(shard, both["out"], B))[2]
    (name,) = {row["model"] for row in by_place(lender).values()}
    asked = f"orders={{run: {both['out']}, model: {name}}}"
    assert run(settings(shard, both["out"], B, asked))[1:] == (12, forwards) and own > forwards
    assert len(RunDir(both["out"], CURVES).read()) == 36


def test_what_the_lender_lacks_is_a_failed_row_until_it_is_there(shard, tmp_path):
    theirs = settings(shard, tmp_path / "a", A, "methods=[random_0]", "dataset.limit=1")
    lender = run(theirs)[0]
    there = settings(shard, tmp_path / "b", B, "methods=[random_0]", f"orders={lender.out}")
    place, missing, forwards = run(there)
    assert (missing, forwards) == (8, 2 + 2 * 3)
    rows = by_place(place)
    assert [rows[key, "random_0", "insertion"]["status"] for key in "abc"] == [
        "ok",
        *["failed"] * 2,
    ]
    said = rows["b", "random_0", "deletion"]
    assert said["error"] == f"{lender.out} holds no order of random_0 for deletion of this image"
    assert said["label"] == 3 and said["content"] and said["order_model"]
    run(theirs | {"dataset": theirs["dataset"] | {"limit": None}})
    assert run(there)[1] == 0
    assert run(there, retry=True)[1:] == (6, 2 * (2 + 2 * 3))
    check_rows(by_place(lender), by_place(place), build("curves", there).model)


def test_an_order_of_other_bytes_is_not_judged(shard, tmp_path):
    tar = shutil.copy(shard, tmp_path / "s.tar")
    lender = run(settings(tar, tmp_path / "a", A, "methods=[random_0]"))[0]
    write_tar(Path(tar), {"a.png": photograph(9), "a.cls": b"3", "b.png": photograph(1)})
    there = settings(tar, tmp_path / "b", B, "methods=[random_0]", f"orders={lender.out}")
    errors = {r["key"]: r["error"] for r in run(there)[0].read().to_pylist()}
    for key in "ab":  # the label of b is gone
        assert "an order of random_0 for another image or label of this key" in errors[key]


def test_a_lender_that_is_rewritten_meanwhile_fails_rows(shard, lender, tmp_path, monkeypatch):
    there = settings(shard, tmp_path, B, "methods=[random_0]", f"orders={lender.out}")
    read = RunDir.read_rows
    monkeypatch.setattr(RunDir, "read_rows", lambda run, part, **w: read(run, f"x{part}", **w))
    errors = {r["error"] for r in run(there)[0].read().to_pylist() if r["key"] != "bad"}
    assert len(errors) == 1 and "was rewritten meanwhile" in errors.pop()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("players.grid=4",), r"orders of moxi_insertion do not fit: players.grid is 2 there, 4"),
        (("players=slico",), "players is PatchGrid there, Slico here"),
        (("masking=blur",), "masking is Zero there, Blur here"),
        (
            ("target=label", "players.grid=4"),
            "target is prediction there, label here; players.grid",
        ),
        (("dataset.name=other",), "dataset.name is toy there, other here"),
        (("methods.moxi_insertion.stop=flip",), "methods.moxi_insertion.stop is full there, flip"),
        (
            ("methods=[gradcam]",),
            "no orders of gradcam there; it holds those of moxi_insertion, ra",
        ),
        (("orders=nowhere",), "orders=nowhere: no results there; run jobs.evaluate first"),
        (("orders={model: x}",), "orders={'model': 'x'}: give a run directory, or {run: <directo"),
    ],
)
def test_what_does_not_fit_is_named(shard, lender, tmp_path, changed, said):
    with pytest.raises(UsageError, match=said) as caught:
        settings(shard, tmp_path, B, f"orders={lender.out}", *changed)
    assert "\n" not in str(caught.value)


def test_methods_are_known_by_what_they_are(shard, lender, tmp_path):
    named = evaluate.main.settings(given(shard, tmp_path, B, f"orders={lender.out}"))
    mine = {"chance": named["methods"]["random_0"]}
    found = located(named | {"methods": mine})["orders"]["fingerprints"]
    assert found == {"chance": by_place(lender)["a", "random_0", "deletion"]["order_fingerprint"]}


def test_whose_orders_is_asked_where_there_are_several(shard, tmp_path):
    few = ("methods=[random_0]", "dataset.limit=1")
    names = {}
    for model in (A, B):
        place = run(settings(shard, tmp_path, model, *few))[0]
    names = {r["model"]: r["order_fingerprint"] for r in place.read().to_pylist()}
    own, other = sorted(names, key=lambda name: A in name)
    with pytest.raises(UsageError, match=r"of several models, .*; choose one"):
        settings(shard, tmp_path / "x", B, *few, f"orders={place.out}")
    with pytest.raises(UsageError, match="'vgg'}: the orders of random_0 there are of test"):
        settings(shard, tmp_path / "x", B, *few, f"orders={{run: {place.out}, model: vgg}}")
    chosen = settings(
        shard, tmp_path / "x", B, *few, f"orders={{run: {place.out}, model: {other}}}"
    )
    assert chosen["orders"]["fingerprints"] == {"random_0": names[other]}
    assert located(chosen) == chosen  # as config.yaml keeps it
    onward = run(chosen)[0]  # whose rows hold the order too
    again = settings(shard, tmp_path / "y", "test_vit", *few, f"orders={onward.out}")["orders"]
    assert again == chosen["orders"] | {"run": onward.out}
    itself = f"orders={{run: {place.out}, model: {own}}}"
    with pytest.raises(UsageError, match="its orders of random_0 are this model's own"):
        build("curves", settings(shard, tmp_path / "z", B, *few, itself))
    with pytest.raises(UsageError, match="are this model's own"):
        build("curves", settings(shard, tmp_path / "z", A, *few, f"orders={onward.out}"))
    run(settings(shard, place.out, A, *few, "engine.precision=tf32"))
    with pytest.raises(UsageError, match=f"several precisions .*{names[other]}.*; choose: orders="):
        located(chosen | {"orders": {"run": place.out, "model": other}})
    assert located(chosen) == chosen


def test_runs_of_older_releases_are_refused_in_one_line(shard, tmp_path):
    out = ROOT / "tests" / "data" / "old_run"
    with pytest.raises(UsageError, match=r"its orders of gradcam do not fit: ") as caught:
        settings(shard, tmp_path, B, "methods=[gradcam]", f"orders={out}")
    assert "\n" not in str(caught.value)


def test_grids_fit_any_input_and_other_players_only_the_same(shard, lender, tmp_path):
    smaller = "+model.preprocessing.input_size=[3,96,96]"
    there = settings(shard, tmp_path / "b", B, smaller, f"orders={lender.out}")
    place, _, forwards = run(there)
    assert forwards == 3 * (2 + 3 * 3)
    check_rows(by_place(lender), by_place(place), build("curves", there).model)
    groups = run(settings(shard, tmp_path / "groups", A, *PRIOR, "methods=[random_0]"))[0]
    there = [shard, tmp_path / "c", B, *PRIOR, "methods=[random_0]", f"orders={groups.out}"]
    with pytest.raises(UsageError, match=r"input_size is \[3,160,160\] there, \[3,96,96\] here"):
        build("curves", settings(*there, smaller))
    place, _, forwards = run(settings(*there))
    assert forwards == 3 * (2 + 2 * 3)  # heat is not asked for
    for identity, row in by_place(place, status="ok").items():
        known = by_place(groups)[identity]
        assert row["regions"] is not None and {c: row[c] for c in KEPT} == {
            c: known[c] for c in KEPT
        }
        np.testing.assert_allclose(row["fraction"], known["fraction"])


def test_a_class_that_the_model_lacks_is_a_failed_row(shard, lender, tmp_path):
    there = settings(shard, tmp_path, B, f"orders={lender.out}", "model.kwargs.num_classes=2")
    targets = {r["key"]: r["target"] for r in by_place(lender).values()}
    rows = run(there)[0].read().to_pylist()
    assert any(r["status"] == "failed" for r in rows if r["key"] != "bad")
    for row in rows:
        if row["key"] != "bad" and targets[row["key"]] > 1:
            assert "is not one of the model's 2" in row["error"] and row["prediction"] in (0, 1)


def test_a_whole_run_on_ray(shard, tmp_path, capsys, shared_ray):
    """Into the lender's own directory: planned, computed, compacted, verified, shown."""
    theirs = settings(shard, tmp_path, A)
    lender = run(theirs)[0]
    arguments = given(shard, lender.out, B, f"orders={lender.out}")
    planning.main.job(planning.main.settings([*arguments, "timed_images=1"]))
    # of the data set's four images, of which one cannot be read
    assert re.findall(r"^(\w+) +(\d+) ", capsys.readouterr().out, re.MULTILINE) == [
        ("moxi_insertion", f"{4 * 3}"),
        ("random_0", f"{4 * 2 * 3}"),
    ]
    said = job("evaluate", *arguments, "max_failed=1", "cluster.actors=1", shared_ray).stdout
    assert "computing 12 rows of 4 images" in said and f"{3 * (2 + 3 * 3)} forwards" in said
    before = by_place(lender, order_model=None)
    judged = [r for r in lender.read().to_pylist() if r["order_model"]]
    after = {(r["key"], r["method"], r["objective"]): r for r in judged}
    check_rows(before, after, build("curves", settings(shard, lender.out, B)).model)
    compaction.main.job(compaction.main.settings([f"out={lender.out}"]))
    assert len(lender.read()) == 24
    found = verify(lender)
    wrong = {name: tally.count for name, tally in found.wrong().items() if tally.count}
    assert (found.expected, wrong) == (24, {"failed": 6})
    aggregate.main.job(
        aggregate.main.settings([f"out={lender.out}", "tracking=disabled", "resamples=20"])
    )
    name, other = before["a", "random_0", "insertion"]["model"], judged[0]["model"]
    shown = capsys.readouterr().out
    assert f"random_0, {name} " in shown and f"random_0, {other}, order of {name} " in shown
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<th>order of" in page and {len(image["views"]) for image in images(page)} == {0, 2}
