"""What a run finds when it begins: rows that are there, shards that changed, suspects."""

import json
import logging
import os
from types import SimpleNamespace

import pytest
from conftest import write_tar
from synthetic import curve, made

from pipeline.data.shards import Shards
from pipeline.rows import RunDir, Writer, rewrite
from pipeline.rows.writer import register
from pipeline.studies.curves.rows import CURVES
from pipeline.workers.backlog import Backlog
from pipeline.workers.families import Selection
from pipeline.workers.resume import Stamps, resumed
from pipeline.workers.schedule import Span
from pipeline.workers.suspects import Suspects
from pipeline.workers.tries import Tries

METHODS = {"one": "f1", "two": "f2"}
PHOTOGRAPH = b"\xff\xd8 of no concern here"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIXEL_QUORUM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shards(tmp_path) -> list[str]:
    return [pack(tmp_path / f"{name}.tar", "abcd") for name in ("x", "y")]


def pack(path, keys: str, **changed: bytes) -> str:
    members = {}
    for key in keys:
        members[f"{key}.jpg"] = changed.get(key, PHOTOGRAPH)
        members[f"{key}.cls"] = b"1"
    return str(write_tar(path, members))


def work(shards: list[str], **methods: str) -> SimpleNamespace:
    prints = methods or METHODS
    data = Shards(name="toy", shards=shards)
    return SimpleNamespace(
        data=data,
        sample=data.read,
        kind=CURVES,
        wanted=[(name, "insertion") for name in prints],
        fingerprints=prints,
        order_fingerprints={name: f"o-{name}" for name in prints},
        lender="",
        forwards=lambda wanted, known: 10 * len(wanted) - 9 * len(known),
    )


def commit(out, *rows: dict) -> RunDir:
    run = RunDir(str(out), CURVES)
    writer = Writer(run, register(run), made("f"))
    writer.stage(list(rows))
    writer.close()
    return run


def row(shard: str, key: str, method: str, of: SimpleNamespace, **more) -> dict:
    ref = next(r for r in of.data.index() if (r.shard, r.key) == (f"{shard}.tar", key))
    content = of.data.read(ref).content
    print_, order = of.fingerprints[method], of.order_fingerprints[method]
    found = curve(key, print_, method, shard=f"{shard}.tar", content=content)
    return found | {"order_fingerprint": order} | more


def looked(out, of, said=None, **options) -> Backlog:
    run = RunDir(str(out), CURVES)
    said = [] if said is None else said
    backlog, stamps = resumed(
        run,
        {0: of},  # type: ignore[dict-item]
        [Selection((0,), of.data.indexed())],
        retry=options.get("retry", False),
        say=said.append,
    )
    backlog.scan(stamps.see)
    stamps.keep()
    backlog.wait()
    return backlog


def missing(backlog: Backlog) -> dict[tuple[str, str], list[str]]:
    leases = backlog.leases(backlog.take())
    return {(one.ref.shard, one.ref.key): [m for m, _ in one.asked[0].wanted] for one in leases}


def test_just_what_is_missing_is_leased(tmp_path, shards):
    of = work(shards)
    rows = [row("x", key, "one", of) for key in "abcd"] + [row("x", "a", "two", of)]
    commit(tmp_path / "run", *rows)
    backlog = looked(tmp_path / "run", of)
    found = missing(backlog)
    assert ("x.tar", "a") not in found
    assert found["x.tar", "b"] == ["two"] and found["y.tar", "d"] == ["one", "two"]
    count = backlog.found
    assert (count.images, count.rows, count.missing_images, count.missing_rows) == (8, 16, 7, 11)
    assert count.forwards == 110


def test_orders_that_others_judged_are_known(tmp_path, shards):
    of = work(shards)
    other = row("x", "b", "one", of, fingerprint="judged otherwise")
    run = commit(tmp_path / "run", other)
    backlog = looked(tmp_path / "run", of)
    leases = {(one.ref.shard, one.ref.key): one for one in backlog.leases(backlog.take())}
    assert leases["x.tar", "b"].asked[0].known == {("one", "insertion"): (run.out, run.sealed()[0])}
    assert leases["x.tar", "a"].asked[0].known == {}
    assert backlog.found.forwards == 8 * 20 - 9


def test_orders_of_another_run_are_known(tmp_path, shards):
    of = work(shards)
    of.lender = str(tmp_path / "lender")
    rows = [row("x", key, "one", of, fingerprint="theirs") for key in "ab"]
    lender = commit(of.lender, *rows, row("y", "c", "two", of, fingerprint="f2"))
    own = commit(tmp_path / "run", row("x", "a", "one", of), row("x", "b", "two", of))
    for out, there in ((tmp_path / "fresh", 0), (own.out, 2)):
        backlog = looked(out, of)
        leases = {(one.ref.shard, one.ref.key): one for one in backlog.leases(backlog.take())}
        held = (lender.out, lender.sealed()[0])
        assert leases["x.tar", "b"].asked[0].known == {("one", "insertion"): held}
        assert leases["y.tar", "c"].asked[0].known == {
            ("two", "insertion"): held
        }  # a row there, none here
        assert backlog.found.missing_rows == 16 - there
    assert [m for m, _ in leases["x.tar", "a"].asked[0].wanted] == ["two"]
    assert not leases["x.tar", "a"].asked[0].known
    assert looked(of.lender, of).found.missing_rows == 15  # the lender itself may be written to


def test_rows_of_this_work_that_failed_are_tried_again_when_asked(tmp_path, shards):
    of = work(shards)
    bad = row("x", "a", "one", of, status="failed", error="no image")
    foreign = bad | {"fingerprint": "other", "order_fingerprint": "other"}
    run = commit(tmp_path / "run", bad, foreign, row("x", "b", "one", of))
    assert ("x.tar", "a") in missing(looked(tmp_path / "run", of))  # for its other method
    assert missing(looked(tmp_path / "run", work(shards, one="f1"))).keys() == {
        ("x.tar", "c"),
        ("x.tar", "d"),
        *(("y.tar", key) for key in "abcd"),
    }
    said: list[str] = []
    again = missing(looked(tmp_path / "run", work(shards, one="f1"), said, retry=True))
    assert ("x.tar", "a") in again and ("x.tar", "b") not in again
    assert said == [f"{run.out}: 1 rows that failed are computed again"]
    left = run.read(["key", "status", "fingerprint"]).to_pylist()
    assert len(left) == 2 and {r["fingerprint"] for r in left} == {"f1", "other"}


def test_a_shard_that_changed_costs_the_samples_whose_bytes_did(tmp_path, shards):
    of, out = work(shards, one="f1"), tmp_path / "run"
    commit(out, *(row(shard, key, "one", of) for shard in "xy" for key in "abcd"))
    assert missing(looked(out, of)) == {}
    pack(tmp_path / "x.tar", "abcd", c=PHOTOGRAPH[::-1])  # of the same size
    said: list[str] = []
    assert missing(looked(out, of, said)) == {("x.tar", "c"): ["one"]}
    assert said[1] == "x.tar has changed: the bytes of 1 of its 4 samples did"
    again: list[str] = []
    looked(out, of, again)
    assert again == []  # it is known now
    os.utime(tmp_path / "y.tar", ns=(1, 1))  # copied anew: other times, the same bytes
    assert missing(looked(out, of, said)) == {("x.tar", "c"): ["one"]}
    assert said[-1] == "y.tar has changed: the bytes of 0 of its 4 samples did"


def test_stamps_of_older_runs_are_sizes_and_damaged_ones_none(tmp_path, shards, caplog):
    of, run = work(shards), RunDir(str(tmp_path / "run"), CURVES)
    index = next(of.data.indexed())[0]
    size = os.path.getsize(shards[0])
    for content, changed in (({"x.tar": size}, False), ({"x.tar": size + 1}, True), ({}, False)):
        run.write(run.path("shards.json"), json.dumps(content).encode())
        assert Stamps(run).changed(index) is changed
    run.write(run.path("shards.json"), b"{")
    with caplog.at_level(logging.WARNING):
        assert not Stamps(run).changed(index)
    assert "shards.json is damaged" in caplog.text


def test_what_a_rewrite_left_is_mended_first(tmp_path, shards, monkeypatch):
    of = work(shards, one="f1")
    run = commit(tmp_path / "run", row("x", "a", "one", of), row("x", "b", "one", of))

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "remove", dies)
        with pytest.raises(KeyboardInterrupt):
            rewrite.discard(run, lambda table: [key == "a" for key in table["key"].to_pylist()])
    assert len(run.sealed()) == 2
    assert ("x.tar", "a") in missing(looked(tmp_path / "run", of))
    assert len(run.sealed()) == 1


def test_suspects_outlive_the_driver(tmp_path, shards):
    of, run = work(shards), RunDir(str(tmp_path / "run"), CURVES)
    backlog = looked(tmp_path / "run", of)
    suspects: Suspects = Suspects(3)
    tries = Tries(run, suspects, backlog)
    spans = backlog.take()
    assert list(tries.without_suspects(spans)) == spans
    suspects.add([(0, 1), (1, 2)])
    suspects.died([(1, 0)], suspect=False)
    tries.keep()

    heirs: Suspects = Suspects(3)
    after = Tries(run, heirs, backlog)
    rest = [image for span in after.without_suspects(spans) for image in span.images()]
    assert sorted(rest) == [(0, 0), (0, 2), (0, 3), (1, 1), (1, 3)]
    assert sorted(map(sorted, heirs)) == [[(0, 1), (1, 2)], [(1, 0)]]
    assert heirs.deaths[1, 0] == 1
    rest_of_it = [span for span in spans if span.shard == 0]  # the suspect of the other is done
    of_few: Suspects = Suspects(3)
    list(Tries(run, of_few, backlog).without_suspects([*rest_of_it, Span(1, 1, 2)]))
    assert sorted(map(sorted, of_few)) == [[(0, 1)]] and not of_few.deaths
    after.forget()
    assert list(Tries(run, Suspects(3), backlog).without_suspects(spans)) == spans
    assert Span(0, 0, 4) in spans
