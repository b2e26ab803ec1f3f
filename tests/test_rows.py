import errno
import os
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic import seal

from pipeline import UsageError
from pipeline.identity import fingerprint
from pipeline.rows import METADATA_KEY, Committed, Kind, RunDir, Writer, storage
from pipeline.rows.writer import recover, register
from pipeline.studies.curves.rows import CURVES, SCHEMA


def row(key: str, method: str = "m", **more) -> dict:
    return {
        "dataset": "d",
        "shard": "s.tar",
        "key": key,
        "method": method,
        "objective": "insertion",
        "fingerprint": f"f-{method}",
        "status": "ok",
        "order": [1, 0],
    } | more


def test_files_carry_schema_and_provenance(tmp_path):
    run = RunDir(str(tmp_path), CURVES)
    seal(tmp_path, ([row("a")], {"x": 1}), ([row("b")], {"x": 2}))
    assert sorted(m["x"] for m in run.metadata()) == [1, 2]  # made two ways: two parts
    for name in run.sealed():
        schema = pq.read_schema(run.path("results", name))
        assert schema.remove_metadata() == SCHEMA
        assert METADATA_KEY in schema.metadata


def test_no_trace_of_a_write_that_failed(tmp_path, monkeypatch):
    run = RunDir(str(tmp_path), CURVES)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(storage, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        Writer(run, "w", {}).stage([row("a")])
    assert os.listdir(tmp_path / "staging" / "results" / "w") == []


def test_fingerprints_address_content():
    one = fingerprint({"a": 1, "b": [1.0, 2.5]})
    assert one == fingerprint({"b": [1, 2.5], "a": 1.0})
    assert one != fingerprint({"a": 1, "b": [1.0, 2.6]})


def sealed(run: RunDir, rows: list[dict]) -> str:
    """A part with just these rows; its name."""
    before = set(run.sealed())
    seal(run.out, (rows, {}), kind=run.kind)
    (name,) = set(run.sealed()) - before
    return name


GROWN = Kind(
    "curves",
    "results",
    SCHEMA.set(SCHEMA.get_field_index("flip"), pa.field("flip", pa.int64())),
    "objective",
    "jobs.evaluate",
)
EARLIER = Kind(
    "curves",
    "results",
    SCHEMA.remove(SCHEMA.get_field_index("order_fingerprint")),
    "objective",
    "jobs.evaluate",
)


def test_older_and_newer_parts_are_one_table(tmp_path):
    old, new = RunDir(str(tmp_path), EARLIER), RunDir(str(tmp_path), GROWN)
    sealed(old, [row("a", flip=1)])
    assert new.read(["key", "order_fingerprint"]).to_pylist() == [
        {"key": "a", "order_fingerprint": None}
    ]
    sealed(new, [row("b", flip=2**40, order_fingerprint="o")])
    for run in (old, new):
        found = {r["key"]: r for r in run.read().to_pylist()}
        assert [(found[k]["flip"], found[k]["order_fingerprint"]) for k in "ab"] == [
            (1, None),
            (2**40, "o"),
        ]
        assert run.read(["flip"])["flip"].type == pa.int64()


def test_what_cannot_be_read_is_one_line_that_names_it(tmp_path):
    run = RunDir(str(tmp_path), CURVES)
    sealed(run, [row("a")])
    with pytest.raises(UsageError, match=r"^out=.*no row has the columns nonsense$"):
        run.read(["key", "nonsense"])
    other = tmp_path / "results" / "other.parquet"

    def refused(said: str, *asks):
        for ask in asks:
            with pytest.raises(UsageError, match=f"^{other} {said}") as caught:
                ask()
            assert "\n" not in str(caught.value)

    wanted = [("f-m", "insertion")]
    everybody = (run.read, run.metadata, lambda: Committed.read(run, wanted))
    pq.write_table(pa.table({"key": ["a"]}), other)
    refused("holds no rows of Pixel Quorum", *everybody)
    other.write_bytes(b"PAR1 and nothing else")
    refused("is no readable Parquet file", *everybody)
    flip = pa.table({"flip": ["many"]}).replace_schema_metadata({METADATA_KEY: b"{}"})
    pq.write_table(flip, other)
    refused(r"does not fit the other parts \(.*flip has incompatible types", run.read)


def test_a_store_that_fails_is_not_a_damaged_file(tmp_path, monkeypatch):
    run = RunDir(str(tmp_path), CURVES)
    sealed(run, [row("a")])
    monkeypatch.setattr(run.fs, "open", Mock(side_effect=OSError(errno.EBUSY, "SlowDown")))
    with pytest.raises(OSError, match="SlowDown") as caught:
        run.read()
    assert not isinstance(caught.value, UsageError)


def test_a_row_that_lies_in_two_parts_counts_once(tmp_path, caplog):
    run = RunDir(str(tmp_path), CURVES)
    names = [
        sealed(run, [row("a", seconds=1.0), row("b")]),
        sealed(run, [row("a", seconds=2.0), row("c")]),
    ]
    table = run.read(["key", "seconds"]).to_pylist()
    assert sorted(r["key"] for r in table) == ["a", "b", "c"]
    (a,) = (r for r in table if r["key"] == "a")
    assert a["seconds"] == 1.0 + names.index(min(names))  # of the first part by name
    assert "1 rows occur twice" in caplog.text


def test_orders_say_where_they_lie(tmp_path):
    sealed(RunDir(str(tmp_path), EARLIER), [row("old")])
    run = RunDir(str(tmp_path), GROWN)
    both = [row("a", order_fingerprint="o"), row("b", order_fingerprint="o", status="failed")]
    name = sealed(run, [*both, row("a", "n", order_fingerprint="p")])
    other = Committed.read(run, [("new", "insertion"), ("new", "deletion")], ["o", "o"])
    held = other.of("s.tar", ["a", "b", "old"])
    assert np.argwhere(held.holder_nW >= 0).tolist() == [[0, 0]]
    assert held.parts[held.holder_nW[0, 0]] == (run.out, name)
    (found,) = run.read_rows(name, shard="s.tar", key="a", order_fingerprint="o")
    assert found["order"] == [1, 0] and found["method"] == "m"
    assert found["scores"] is None
    (older,) = set(run.sealed()) - {name}
    assert run.read_rows(older, order_fingerprint="o") == []


def busy(action, times: int):
    """`action`, which fails so many times first."""
    left = iter(range(times))

    def attempt(*arguments, **options):
        if next(left, None) is not None:
            raise OSError(errno.EBUSY, "SlowDown")
        return action(*arguments, **options)

    return attempt


@pytest.fixture
def store(monkeypatch):
    """A run directory in an object store, without pauses between tries."""
    monkeypatch.setattr(storage, "FIRST_PAUSE_S", 0.0)
    run = RunDir("memory://bucket/run", CURVES)
    yield run
    if run.fs.exists("/bucket"):
        run.fs.rm("/bucket", recursive=True)


@pytest.mark.parametrize("call", ["pipe_file", "rm_file", "exists"])
def test_a_busy_store_loses_no_row(store, monkeypatch, call):
    writer = Writer(store, register(store), {})
    monkeypatch.setattr(store.fs, call, busy(getattr(store.fs, call), 3))
    for key in "ab":
        writer.stage([row(key)])
    writer.close()
    assert len(store.read()) == 2
    assert store.names("staging", "results") == []


def test_a_seal_that_fails_for_good_keeps_what_is_staged(store, monkeypatch):
    writer = Writer(store, register(store), {})
    writer.stage([row("a")])
    with monkeypatch.context() as patch:
        patch.setattr(store.fs, "pipe_file", busy(store.fs.pipe_file, 99))
        with pytest.raises(OSError, match="SlowDown"):
            writer.seal()
    assert recover(store) == 1
    assert len(store.read()) == 1


def test_what_another_try_will_meet_again_is_not_tried_again():
    ask = Mock(side_effect=PermissionError("read-only"))
    with pytest.raises(PermissionError):
        storage.retried(ask)
    assert ask.call_count == 1


def test_a_file_is_created_by_one_only(tmp_path):
    for run in (RunDir(str(tmp_path), CURVES), RunDir("memory://created", CURVES)):
        run.create(run.path("lock", "x"), b"first")
        with pytest.raises(FileExistsError):
            run.create(run.path("lock", "x"), b"second")
        assert run.fs.cat_file(run.path("lock", "x")) == b"first"
        run.fs.rm(run.path("lock"), recursive=True)
