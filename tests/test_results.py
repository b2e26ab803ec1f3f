import os

import pyarrow.parquet as pq
import pytest

from pipeline import UsageError
from pipeline.results import METADATA_KEY, SCHEMA, Run
from pipeline.work import fingerprint


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


def test_staged_rows_are_sealed_once(tmp_path):
    run = Run(str(tmp_path))
    committed = run.committed()
    names = [run.stage([row(k), row(k, "n")], {"config": 1}) for k in "ab"]
    assert run.staged() == sorted(names)
    run.seal(names, committed)
    assert run.staged() == []
    assert len(run.read()) == 4
    assert run.committed() == committed
    again = run.stage([row("a"), row("c")], {"config": 1})  # a late write of a row that is there
    run.seal([again], committed)
    table = run.read(["key", "method"]).to_pylist()
    assert sorted((r["key"], r["method"]) for r in table) == [
        ("a", "m"),
        ("a", "n"),
        ("b", "m"),
        ("b", "n"),
        ("c", "m"),
    ]


def test_a_repeated_write_has_the_same_name(tmp_path):
    run = Run(str(tmp_path))
    assert run.stage([row("a")], {}) == run.stage([row("a", order=[0, 1])], {})
    assert len(run.staged()) == 1


def test_files_carry_schema_and_provenance(tmp_path):
    run = Run(str(tmp_path))
    run.seal([run.stage([row("a")], {"x": 1}), run.stage([row("b")], {"x": 2})], set())
    assert sorted(m["x"] for m in run.metadata()) == [1, 2]  # made two ways: two parts
    for name in run.sealed():
        schema = pq.read_schema(run.path("results", name))
        assert schema.remove_metadata() == SCHEMA
        assert METADATA_KEY in schema.metadata


def test_no_trace_of_a_write_that_failed(tmp_path, monkeypatch):
    run = Run(str(tmp_path))

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        run.stage([row("a")], {})
    assert os.listdir(tmp_path / "staging" / "results") == []


def test_object_stores_take_one_put():
    run = Run("memory://bucket/run")
    committed = run.committed()
    run.seal([run.stage([row("a")], {})], committed)
    assert len(run.read()) == 1
    assert run.committed() == committed
    run.fs.rm("/bucket", recursive=True)


def test_a_changed_shard_is_refused(tmp_path):
    run = Run(str(tmp_path))
    run.check_shards({"a.tar": 10})
    run.check_shards({"a.tar": 10, "b.tar": 3})
    with pytest.raises(UsageError, match=r"a.tar has changed \(10 bytes .* 11 now"):
        run.check_shards({"a.tar": 11})


def test_fingerprints_address_content():
    one = fingerprint({"a": 1, "b": [1.0, 2.5]})
    assert one == fingerprint({"b": [1, 2.5], "a": 1.0})
    assert one != fingerprint({"a": 1, "b": [1.0, 2.6]})
