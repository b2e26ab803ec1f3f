import shutil

import fsspec
import numpy as np
import pyarrow.compute as pc
import pytest
from synthetic import curve, made, seal

from jobs import compact as job
from pipeline import UsageError
from pipeline.rows import Committed, RunDir, Writer, rewrite, storage
from pipeline.rows.compact import Size, compact, surplus
from pipeline.rows.writer import recover, register
from pipeline.studies.curves.rows import CURVES

WANTED = [("f", "insertion"), ("f", "deletion"), ("g", "insertion")]


def filled(out) -> RunDir:
    """Parts of one and of two images, made in two ways; `c` failed once and is done elsewhere."""
    return seal(
        out,
        ([curve("a", "f"), curve("a", "f", objective="deletion")], made("f")),
        ([curve("b", "f"), curve("c", "f", status="failed", error="why")], made("f")),
        ([curve("c", "f"), curve("d", "f", status="failed", error="why")], made("f")),
        ([curve("a", "g"), curve("b", "g")], made("g")),
    )


def rows(run: RunDir) -> list[dict]:
    table = run.read().sort_by([(c, "ascending") for c in run.kind.identity])
    return table.to_pylist()


class Killed(BaseException):
    """The process is no more."""


@pytest.fixture
def killed_at(monkeypatch):
    """Let the process die at a write or removal, before or after this has happened."""

    def prepare(number: int, after: bool):
        left = iter(range(number))

        def dying(action):
            def attempt(*arguments, **options):
                alive = next(left, None) is not None
                if alive or after:
                    action(*arguments, **options)
                if not alive:
                    raise Killed

            return attempt

        patch = pytest.MonkeyPatch()
        patch.setattr(storage.Storage, "write", dying(storage.Storage.write))
        fs = type(fsspec.filesystem("file"))
        patch.setattr(fs, "rm_file", dying(fs.rm_file))
        return patch

    return prepare


def discarding(run: RunDir) -> None:
    rewrite.discard(run, lambda t: np.asarray(pc.equal(t["status"], "failed")))


def compacting(run: RunDir) -> None:
    list(compact(run, Size(100)))


@pytest.mark.parametrize("work", [discarding, compacting])
@pytest.mark.parametrize("after", [False, True])
def test_whenever_it_dies_the_rows_are_the_same(work, after, killed_at, tmp_path):
    whole = filled(tmp_path / "whole").out
    every = rows(RunDir(whole, CURVES))
    ok = [row for row in every if row["status"] == "ok"]
    for number in range(100):
        run = RunDir(shutil.copytree(whole, f"{whole}-{number}"), CURVES)
        patch = killed_at(number, after)
        try:
            work(run)
            break
        except Killed:
            patch.undo()
            assert [row for row in rows(run) if row["status"] == "ok"] == ok  # to readers now
            rewrite.recover(run)
            rewrite.recover(run)
            assert [row for row in rows(run) if row["status"] == "ok"] == ok
            assert "rewrite.json" not in run.names("staging", "results")
            work(run)
            assert rows(run) == (ok if work is discarding else every)
        finally:
            patch.undo()
    assert 6 < number < 99


def test_what_is_discarded_is_gone_and_nothing_else_is_touched(tmp_path):
    run = filled(tmp_path)
    before = run.sealed()
    assert rewrite.discard(run, lambda t: np.asarray(pc.equal(t["key"], "b"))) == 2
    assert {row["key"] for row in rows(run)} == {"a", "c", "d"}
    assert len(set(before) & set(run.sealed())) == 2
    assert rewrite.discard(run, lambda t: np.ones(len(t), bool)) == 6
    assert run.sealed() == [] and run.names("staging", "results") == []


def test_small_parts_become_one_for_each_way_they_were_made(tmp_path):
    run = filled(tmp_path)
    before = rows(run)
    list(compact(run, Size(100)))
    assert rows(run) == before and surplus(run) == {}
    assert len(run.sealed()) == 2
    assert sorted(m["fingerprints"]["moxi"] for m in run.metadata()) == ["f", "g"]
    for name in run.sealed():
        keys = [row["key"] for row in run.read_rows(name)]
        assert keys == sorted(keys)
    assert list(compact(run, Size(100))) == []


def test_what_a_writer_says_of_parts_that_are_merged_since_does_not_matter(tmp_path):
    run = RunDir(str(tmp_path), CURVES)
    writer = Writer(run, register(run), made("f"))
    for key in "ab":
        writer.stage([curve(key, "f")])
        writer.seal()
    writer.stage([curve("c", "f")])
    for _ in range(3):  # its claims stay for a while
        recover(run)
        list(compact(run, Size(100)))
        assert [row["key"] for row in rows(run)] == list("abc") and len(run.sealed()) == 1


def test_readers_look_again_where_a_part_has_gone_meanwhile(tmp_path, monkeypatch):
    run = filled(tmp_path)
    before, listings = rows(run), [run.sealed()]
    list(compact(run, Size(100)))
    listed = RunDir.sealed
    monkeypatch.setattr(RunDir, "sealed", lambda r: listings.pop() if listings else listed(r))
    assert rows(run) == before and not listings


def test_parts_never_outgrow_their_size(tmp_path):
    run = seal(tmp_path, *(([curve(f"{i:02}", "f")], made("f")) for i in range(10)))
    list(compact(run, Size(4)))
    sizes = sorted(len(run.read_rows(name)) for name in run.sealed())
    assert sizes == [2, 4, 4]


def test_a_plan_that_is_none_is_refused(tmp_path):
    run = filled(tmp_path)
    for content in (b"{", b"[]", b'{"old": ["../../x"], "new": []}', b'{"old": [1], "new": []}'):
        run.write(run.path("staging", "results", "rewrite.json"), content)
        with pytest.raises(UsageError, match=r"rewrite.json is no plan of a rewrite"):
            rewrite.recover(run)


def test_an_ok_row_wins_over_a_failed_one(tmp_path):
    found = {row["key"]: row["status"] for row in rows(filled(tmp_path)) if row["method"] == "moxi"}
    assert found == {"a": "ok", "b": "ok", "c": "ok", "d": "failed"}


def test_the_job_says_what_it_did(tmp_path, capsys):
    filled(tmp_path)
    job.main.job(job.main.settings([f"out={tmp_path}"]))
    said = "results: 4 parts are 2 now; 7 rows, 1 that lay there twice removed"
    assert said in capsys.readouterr().out
    with pytest.raises(UsageError, match="no rows there"):
        job.main.job(job.main.settings([f"out={tmp_path}/none"]))


def test_committed_rows_are_found_by_shard(tmp_path):
    committed = Committed.read(filled(tmp_path), WANTED)
    found = committed.of("s.tar", ["d", "x", "c", "a"])
    assert found.rows_nW.tolist() == [[1, 0, 0], [0, 0, 0], [2, 0, 0], [1, 1, 1]]
    assert found.failed_nW.tolist() == [[True, False, False]] + [[False] * 3] * 3
    assert found.strange == 2  # b
    assert committed.shards == {"s.tar"}
    assert not committed.of("other.tar", ["a"]).done_nW.any()


def test_orders_are_offered_where_rows_are_missing(tmp_path):
    other = [
        curve("a", "other", order_fingerprint="o"),
        curve("b", "other", order_fingerprint="o", status="failed"),
        curve("c", "other", order_fingerprint="o"),
        curve("d", "other", order_fingerprint="p"),
    ]
    run = seal(tmp_path, (other, made("other")))
    (name,) = run.sealed()
    seal(tmp_path, ([curve("c", "f", order_fingerprint="o")], made("f")))
    committed = Committed.read(run, [("f", "insertion"), ("f", "deletion")], ["o", "o"])
    found = committed.of("s.tar", list("abcd"))
    assert found.done_nW.tolist() == [[False] * 2, [False] * 2, [True, False], [False] * 2]
    assert np.argwhere(found.holder_nW >= 0).tolist() == [[0, 0]]
    assert found.parts[found.holder_nW[0, 0]] == (run.out, name)


def test_committed_without_rows_or_parts_is_empty(tmp_path):
    assert not Committed.read(RunDir(str(tmp_path), CURVES), WANTED).of("s", ["a"]).done_nW.any()
    assert Committed.read(filled(tmp_path), [("none", "insertion")]).shards == set()
