"""Cells of a sweep: what a command line asks for, what cells share, how they are told; no Ray."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import encode, write_tar
from PIL import Image
from synthetic import curve, made, seal

from jobs import aggregate, evaluate
from pipeline import RunError, UsageError
from pipeline.build import load, provenance
from pipeline.config.sweeps import parsed
from pipeline.data.shards import Shards
from pipeline.engine import Engine
from pipeline.failures import told
from pipeline.rows import Committed, RunDir, Storage, Writer, parts
from pipeline.rows.writer import recover, register
from pipeline.studies import Score, build
from pipeline.studies.curves.rows import CURVES
from pipeline.sweep import Axis, beside, cells, named, running
from pipeline.sweep.adaptive import Adaptive
from pipeline.sweep.grid import combinations
from pipeline.workers import Outcome, Rows
from pipeline.workers.backlog import Backlog
from pipeline.workers.families import Selection
from pipeline.workers.line import Line
from pipeline.workers.outcome import counted
from pipeline.workers.resume import resumed

DATA = ["dataset.name=x", "dataset.shards=x.tar"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIXEL_QUORUM_CACHE", str(tmp_path / "cache"))


def sweep(*given: str):
    mine = {one.partition("=")[0] for one in given}
    rest = [one for one in DATA if one.partition("=")[0] not in mine]
    return parsed([*rest, *given], evaluate.main._composed)


def grid(*given: str) -> list:
    found = sweep(*given)
    return [found.compose(options) for options in combinations(found.axes)]


def test_a_command_line_is_every_combination_of_what_it_sweeps():
    found = grid(
        "masking=zero,blur", "players.grid=range(2,8,2)", "methods=[random_0],[gradcam,random_0]"
    )
    assert len(found) == 2 * 3 * 2 and len({cell.name for cell in found}) == 12
    last = found[-1]
    assert last.name == "masking=blur players.grid=6 methods=[gradcam,random_0]"
    assert last.settings["masking"]["_target_"] == "pipeline.masking.blur.Blur"
    assert last.settings["curve_masking"] == last.settings["masking"]  # it follows
    assert last.settings["players"]["grid"] == 6
    assert list(last.settings["methods"]) == ["gradcam", "random_0"]
    assert "sweep" not in last.settings  # a cell is the run that one would make of it alone
    given = [*DATA, *last.name.split()]
    assert evaluate.main.settings(given) == last.settings


def test_globs_and_choices_are_hydras():
    assert sweep("masking=glob(*dr*)").axes == [Axis(option="masking", values=["token_drop"])]
    assert sweep("masking=choice(zero,blur)").axes[0].values == ["zero", "blur"]
    twice = list(combinations([Axis(option="x", values=["1", "1"])]))
    assert twice == [{"x": "1"}]
    (axis,) = sweep("methods.rise.keep=tag(log,interval(0.1,0.9))", "methods=[rise]").axes
    assert axis == Axis(option="methods.rise.keep", low=0.1, high=0.9, log=True)


def test_a_wrong_cell_is_wrong_alone():
    good, bad, other = grid("players.grid=2,two", "methods=[random_0]")[:1] + grid(
        "masking=nothing,zero", "out=runs/y"
    )
    assert good.error is None and other.error is None
    assert "masking/nothing does not exist: choose masking from" in str(bad.error)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["masking=zero"], "-m: nothing is swept; give an option several values"),
        (["players.grid=interval(2,4)"], "players.grid: an interval has no grid; give values"),
        (["players.grid=tag(cube,interval(2,4))"], "tag 'cube' says nothing"),
        (["players.grid=interval(4,2)"], "interval(4.0,2.0): give low, high"),
    ],
)
def test_what_cannot_be_swept_is_told(given, said):
    with pytest.raises(UsageError) as caught:
        grid(*given)
    assert said in str(caught.value)


def test_how_a_sweep_is_made_is_its_own_setting():
    assert sweep("masking=zero,blur", "sweep.fail_fast=true").how["fail_fast"] is True
    found = sweep("masking=nowhere,nothing", "sweep=optuna", "sweep.trials=3").how
    assert found["trials"] == 3  # although no cell can be composed


# What cells share: rows and orders.


def toy(shards: str, *methods: str, judged: str = "", **more):
    """A work of so many methods; orders are addressed by the method, rows by the judge too."""
    data = Shards(name="toy", shards=shards, **more)
    return SimpleNamespace(
        data=data,
        sample=data.read,
        kind=CURVES,
        wanted=[(name, "insertion") for name in methods],
        fingerprints={name: f"{name}{judged}" for name in methods},
        order_fingerprints={name: f"o-{name}" for name in methods},
        lender="",
        forwards=lambda wanted, known: 10 * len(wanted) - 9 * len(known),
    )


@pytest.fixture
def shard(tmp_path) -> str:
    members = {f"{key}.{ext}": b"1" for key in "abcd" for ext in ("jpg", "cls")}
    return str(write_tar(tmp_path / "s.tar", members))


def scanned(out, works: list, selections=None) -> Backlog:
    run = RunDir(str(out), CURVES)
    numbered = dict(enumerate(works))
    every = Selection(tuple(numbered), works[0].data.indexed())
    backlog, stamps = resumed(run, numbered, selections or [every], retry=False, say=print)
    backlog.scan(stamps.see)
    backlog.wait()
    return backlog


def asked(backlog: Backlog) -> list[tuple[str, list[tuple[int, list[str]]]]]:
    return [
        (lease.ref.key, [(one.cell, [m for m, _ in one.wanted]) for one in lease.asked])
        for lease in backlog.leases(backlog.take())
    ]


def test_a_row_that_two_cells_want_is_the_first_ones(tmp_path, shard):
    backlog = scanned(tmp_path / "run", [toy(shard, "one", "two"), toy(shard, "two", "three")])
    assert asked(backlog) == [(key, [(0, ["one", "two"]), (1, ["three"])]) for key in "abcd"]
    assert (backlog.found.rows, backlog.found.missing_rows) == (12, 12)
    assert [backlog.of[i].rows for i in range(2)] == [8, 8]
    assert [backlog.of[i].missing_rows for i in range(2)] == [8, 4]


def test_cells_that_stand_on_one_order_ask_for_it_together(tmp_path, shard):
    works = [toy(shard, "one"), toy(shard, "two"), toy(shard, "one", judged="!")]
    backlog = scanned(tmp_path / "run", works)
    found = asked(backlog)
    assert found[:4] == [(key, [(0, ["one"]), (2, ["one"])]) for key in "abcd"]
    assert found[4:] == [(key, [(1, ["two"])]) for key in "abcd"]
    assert backlog.found.missing_images == 8
    assert backlog.found.forwards == 4 * (10 + 1) + 4 * 10  # the second judge needs no search


def test_cells_of_different_samples_share_what_both_want(tmp_path, shard):
    few, many = toy(shard, "one", limit=1), toy(shard, "one", limit=3)
    selections = [Selection((i,), w.data.indexed()) for i, w in enumerate((few, many))]
    backlog = scanned(tmp_path / "run", [few, many], selections)
    assert asked(backlog) == [("a", [(0, ["one"])]), ("b", [(1, ["one"])]), ("c", [(1, ["one"])])]
    assert backlog.found.rows == 3


def test_what_is_there_is_counted_once_for_all_and_for_each_cell(tmp_path, shard):
    works = [toy(shard, "one"), toy(shard, "one", "two")]
    rows = [curve(key, "one", "one", order_fingerprint="o-one") for key in "ab"]
    run = seal(tmp_path / "run", (rows, made("one")))
    backlog = scanned(run.out, works)
    assert asked(backlog)[0] == ("a", [(1, ["two"])])
    before = set(run.sealed())
    seal(run.out, ([curve("a", "one"), curve("c", "one"), curve("a", "two")], made("one")))
    total, each = counted(run, backlog, before)
    assert total == Rows(expected=8, there=4, duplicates=1)
    assert str(total) == "8 expected, 4 rows, 1 duplicates"
    assert each[0] == Rows(expected=4, there=3, duplicates=1)
    assert each[1] == Rows(expected=8, there=4, duplicates=1)


def test_an_image_that_is_durable_in_part_lacks_the_rest(tmp_path, shard):
    backlog = scanned(tmp_path / "run", [toy(shard, "one"), toy(shard, "one", judged="!")])
    (lease, *_) = backlog.leases(backlog.take())
    assert not backlog.settle(lease.image, {("s.tar", "a", "one", "insertion")})
    assert backlog.wanted(lease.image) == [(1, [("one", "insertion")])]
    assert backlog.settle(lease.image, {("s.tar", "a", "one!", "insertion")})


def photograph(seed: int) -> bytes:
    pixels_HWC = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return encode(Image.fromarray(pixels_HWC).resize((160, 160), Image.Resampling.BICUBIC), "PNG")


@pytest.mark.usefixtures("one_thread")
def test_an_order_is_searched_once_and_judged_for_every_cell(tmp_path):
    """Real cells on one model through one line: rows as each cell alone would make them."""
    shards = write_tar(tmp_path / "s.tar", {f"{k}.png": photograph(i) for i, k in enumerate("ab")})
    given = [f"dataset.shards={shards}", f"out={tmp_path / 'run'}", "model=timm"]
    given += ["model.name=test_resnet", "model.weights=random", "+model.kwargs.num_classes=10"]
    given += ["players=patch2", "methods=[moxi_insertion]"]
    found = [cell.settings for cell in grid(*given, "masking@curve_masking=zero,blur,mean")]
    model = load(found[0], "cpu")
    works = {i: build("curves", s, model=model) for i, s in enumerate(found)}
    assert all(work.model is model for work in works.values())
    run = RunDir(found[0]["out"], CURVES)
    backlog = scanned(run.out, list(works.values()))
    made_of = {i: provenance(found[i], work) for i, work in works.items()}
    engine, writer = Engine(model), Writer(run, register(run), made_of[0])
    line = Line(works, made_of, engine, writer, **LINE)
    line.start()
    leases = list(backlog.leases(backlog.take()))
    line.put(leases)
    tallies: dict[int, float] = dict.fromkeys(works, 0)
    done: list = []
    while len(done) < 2:
        line.wait(low=10**6, patience_s=0.2)
        report = line.report()
        done += report.done
        for cell, tally in report.cells.items():
            tallies[cell] += tally.forwards
    line.close()
    rows = run.read().to_pylist()
    assert Counter((r["key"], r["curve_masking"]) for r in rows) == Counter(
        (key, f"{masking}") for key in "ab" for masking in {r["curve_masking"] for r in rows}
    )
    assert len(rows) == 6 and all(r["status"] == "ok" for r in rows)
    for key in "ab":
        mine = [r for r in rows if r["key"] == key]
        assert len({tuple(r["order"]) for r in mine}) == 1
        assert len({r["seconds"] for r in mine}) == 1  # one search, whoever judges its order
    assert sum(tallies.values()) == pytest.approx(engine.counters.forwards)
    assert tallies[0] > 0 and tallies[1] == tallies[2]
    configs = {m["fingerprints"]["moxi_insertion"]: m["config"] for m in run.metadata()}
    for row in rows:  # a part says how its own rows were made
        mine = next(i for i, w in works.items() if row["fingerprint"] in w.fingerprints.values())
        assert configs[row["fingerprint"]] == json.loads(json.dumps(found[mine]))
    names = {part: {r["fingerprint"] for r in run.read_rows(part)} for part in run.sealed()}
    assert len(names) == 3 and all(len(prints) == 1 for prints in names.values())


LINE = {"in_engine": 2, "threads": 1, "deadline_s": 60, "fatal": pytest.fail}


def test_groups_that_were_made_in_several_ways_become_several_parts(tmp_path):
    run = RunDir(str(tmp_path), CURVES)
    writer = Writer(run, register(run), made("f"))
    for key, made_of in (("a", "f"), ("b", "g"), ("c", "f")):
        writer.stage([curve(key, made_of)], made(made_of))
    writer.seal()
    writer.stage([curve("d", "g")], made("g"))
    assert recover(run, living=[writer.name]) == 0 and len(run.sealed()) == 2
    recover(run)  # as the next run would, had this one been killed here
    held = {}
    for part in run.sealed():
        (print_,) = parts.metadata(run.fs, run.path("results", part))["fingerprints"].values()
        keys = [r["key"] for r in run.read_rows(part)]
        assert all(r["fingerprint"] == print_ for r in run.read_rows(part))
        held.setdefault(print_, []).extend(keys)
    assert {print_: sorted(keys) for print_, keys in held.items()} == {
        "f": ["a", "c"],
        "g": ["b", "d"],
    }


# How cells are told.


def test_a_closing_table_names_each_cell_and_what_ended_it():
    axes = sweep("masking=zero,nothing,blur").axes
    (good, bad, late) = grid("masking=zero,nothing,blur")
    failed = Outcome(images=4, rows=4, failures={"no image": 2}, max_failed=0.05)
    done = Outcome(images=4, rows=4, counted=Rows(expected=4, there=4))
    ended = [running.Ended(cell=good, outcome=done), running.Ended(cell=bad)]
    swept = running.Swept(ended=[*ended, running.Ended(cell=late, outcome=failed)], total=done)
    lines = swept.table().splitlines()
    assert lines[2].split()[0] == "masking=zero" and lines[2].endswith("ok")
    assert "4/4" in lines[2] and "error: masking/nothing does not exist" in lines[3]
    assert told(failed.failures, 4) in lines[4] and isinstance(failed.trouble, RunError)
    assert swept.status == 1 and len(axes) == 1
    assert running.Swept(ended=ended[:1], total=done).status == 0
    assert running.Swept(ended=ended[1:], total=done).status == 2
    assert running.Swept(ended=[], total=Outcome()).status == 0  # a search that was done before


@pytest.mark.parametrize(("more", "status"), [(["sweep.fail_fast=true"], 1), ([], 2)])
def test_what_cannot_begin_is_known_before_anything_does(tmp_path, more, status):
    """A first bad cell ends the sweep; without a good one there is nothing to begin."""
    maskings = "masking=nothing,zero" if more else "masking=nothing,nowhere"
    found = sweep(maskings, f"out={tmp_path / 'run'}", *more)
    swept = running.run("curves", CURVES, found, dict, pytest.fail)
    assert swept.status == status and not (tmp_path / "run").exists()
    said = swept.table().splitlines()[2:]
    assert "masking/nothing does not exist" in said[0]
    assert said[1].endswith("not begun") == bool(more)


def swept_run(tmp_path):
    """Two maskings by two grids, of which the second is the better one of each."""
    values = {("zero", "2"): 0.2, ("zero", "4"): 0.6, ("blur", "2"): 0.4, ("blur", "4"): 0.8}
    found, held = [], []
    for (masking, size), auc in values.items():
        print_ = f"{masking}{size}"
        row = curve("a", print_, masking=masking, curve_masking=masking, players=f"grid{size}")
        found.append(([row | {"auc_probability": auc}], made(print_)))
        held.append(cells.Swept({"masking": masking, "players.grid": size}, {"moxi": print_}))
    run = seal(tmp_path, *found)
    cells.add(Storage(run.out), held[:3])
    cells.add(Storage(run.out), held[2:])
    assert cells.read(Storage(run.out)) == held
    return run


def test_an_aggregated_sweep_has_a_row_a_cell_and_maps(tmp_path, capsys):
    run = swept_run(tmp_path)
    given = [f"out={run.out}", "tracking=disabled", "resamples=10", "gallery=0"]
    aggregate.main.job(aggregate.main.settings(given))
    said = capsys.readouterr().out
    assert "blur     4             0.8000 *" in said
    lines = (tmp_path / "sweep.csv").read_text().splitlines()
    assert lines[0] == '"masking","players.grid","insertion AUC","images"'
    assert lines[4].startswith('"blur","4",0.8') and lines[4].endswith(",1") and len(lines) == 5
    head, *rest = (tmp_path / "summary.csv").read_text().splitlines()
    assert '"sweep.masking","sweep.players.grid"' in head and len(rest) == 4
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<h2>Sweep</h2>" in page and page.count("<svg") >= 1
    assert "cells of the sweep" in (tmp_path / "tables" / "sweep.txt").read_text()


def test_the_best_cell_of_a_map_is_framed():
    scores = {
        p: Score(fingerprint=p, name="deletion AUC", value=v, n=1, larger=False)
        for p, v in (("a", 0.3), ("b", 0.1), ("c", float("nan")))
    }
    held = [cells.Swept({"x": x, "y": y}, {"m": p}) for x, y, p in ("12a", "34b", "14c")]
    found = beside.lines(held, list(scores.values()))
    assert beside._best([line.scores["deletion AUC"] for line in found]) == 1
    table = beside.table(found)
    assert table.rows[1] == ["3", "4", "0.1000 *", "1"] and table.rows[2][2] == "-"
    assert beside._maps(found).count("3px") >= 0 and beside._maps(found[:1]) is None


def test_a_damaged_record_is_told(tmp_path):
    (tmp_path / cells.FILE).write_text("[")
    with pytest.raises(UsageError, match=r"sweep.json is damaged; remove it"):
        cells.read(Storage(str(tmp_path)))


# A search among cells.


class Killed(BaseException):
    """The process is no more."""


AXES = [
    Axis(option="masking", values=["zero", "blur"]),
    Axis(option="p", low=0.0, high=1.0),
    Axis(option="k", low=1, high=64, log=True, whole=True),
]


def searched(out, kill_at: int | None = None, trials: int = 12, **settings) -> list[dict]:
    """The options of each trial, the last one killed under way."""
    seen: list[dict] = []

    def worth(options):
        seen.append(dict(options))
        if len(seen) == kill_at:
            raise Killed
        return (float(options["p"]) - 0.3) ** 2 + (options["masking"] == "zero")

    Path(out).mkdir(exist_ok=True)
    how = Adaptive(trials=trials, seed=3)
    try:
        list(how.search(str(out), AXES, {"engine": {"precision": "fp32"}, **settings}, worth))
    except Killed:
        assert kill_at is not None
    return seen


def test_a_search_that_was_killed_goes_on_as_it_would_have(tmp_path):
    whole = searched(tmp_path / "whole")
    assert len(whole) == 12 and len({named(o) for o in whole}) == 12
    assert all(1 <= int(o["k"]) <= 64 and 0 <= float(o["p"]) <= 1 for o in whole)
    one, two = searched(tmp_path / "cut", kill_at=5), searched(tmp_path / "cut", kill_at=4)
    three = searched(tmp_path / "cut")
    assert one[-1] == two[0] and two[-1] == three[0]  # under way then, taken up again
    assert [*one[:-1], *two[:-1], *three] == whole
    assert searched(tmp_path / "cut") == [] and len(searched(tmp_path / "cut", trials=14)) == 2


def test_another_space_or_other_settings_are_another_search(tmp_path):
    assert len(searched(tmp_path, trials=2)) == 2
    assert searched(tmp_path, trials=2, cluster={"actors": 9}, masking="blur") == []
    assert len(searched(tmp_path, trials=2, target="label")) == 2


def test_what_a_cell_is_worth_is_the_mean_of_its_rows(tmp_path):
    rows = [curve(k, "f", auc_probability=v) for k, v in (("a", 0.2), ("b", 0.4))]
    rows += [curve("c", "f", status="failed", auc_probability=None), curve("a", "g")]
    run = seal(tmp_path, (rows, made("f")))
    how = Adaptive(facet="insertion")
    assert how.worth(run, {"moxi": "f"}) == pytest.approx(0.3)
    assert how.worth(run, {"moxi": "none"}) is None
    assert Adaptive(facet="deletion").worth(run, {"moxi": "f"}) is None
    with pytest.raises(UsageError, match=r"sweep.measure=order: use one of auc_probability"):
        Adaptive(measure="order").check(run, ["moxi"])
    with pytest.raises(UsageError, match=r"sweep.method=x: it is not among methods"):
        Adaptive(method="x").check(run, ["moxi"])
    assert Committed.read(run, [("f", "insertion")]).shards == {"s.tar"}
