"""Whatever lies among the parts, readers say so in one line or read it."""

import io
import json
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzzing import tries
from hypothesis import given
from hypothesis import strategies as st
from synthetic import curve, made

from pipeline import UsageError
from pipeline.rows import METADATA_KEY, Committed, RunDir, parts, rewrite
from pipeline.rows.compact import Size, compact
from pipeline.studies.curves.rows import CURVES, SCHEMA
from pipeline.verify import verify

WANTED = [("f", "insertion"), ("f", "deletion")]
PROVENANCE = made("f", dataset=None)
PART = parts.to_bytes(parts.to_table([curve(k, "f") for k in "abc"], PROVENANCE, SCHEMA))
edits = st.lists(
    st.tuples(st.integers(0, len(PART) - 1), st.binary(max_size=8), st.integers(0, 8)),
    min_size=1,
    max_size=4,
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from(["s.tar", "a", "f", "insertion", "ok", "failed"]),
    st.lists(st.integers(-(2**31), 2**31), max_size=2),
    st.dictionaries(st.text("ab", min_size=1, max_size=1), st.integers(0, 9), max_size=2),
)
uniform = values.flatmap(lambda v: st.tuples(st.just(v), st.just(v)) if v else st.just((v, None)))
names = st.one_of(st.sampled_from(SCHEMA.names), st.text(max_size=4))
tables = st.dictionaries(names, uniform, min_size=1, max_size=12)
said = st.one_of(
    st.binary(max_size=8),
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=3)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(["config", "fingerprints", "wanted", "dataset", "methods"]),
                inner,
                max_size=5,
            ),
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


def readers(run: RunDir):
    """Everything that looks at parts, with what it found or None for a UsageError."""
    name = run.sealed()[0]
    for look in (
        run.read,
        lambda: run.read(["key", "auc_probability"]).to_pylist(),
        run.metadata,
        lambda: run.read_rows(name, shard="s.tar", key="a"),
        lambda: Committed.read(run, WANTED, ["o", "o"]).of("s.tar", ["a", "b"]).done_nW,
        lambda: verify(run),
        lambda: rewrite.discard(run, lambda t: np.zeros(len(t), bool)),
        lambda: list(compact(run, Size(100))),
    ):
        with suppress(UsageError):
            look()


def holding(tmp_path, content: bytes) -> RunDir:
    """A run directory of two parts, one of these bytes."""
    run = RunDir(str(tmp_path), CURVES)
    folder = tmp_path / "results"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "a.parquet").write_bytes(content)
    (folder / "b.parquet").write_bytes(PART)
    return run


def damaged(tmp_path, changes) -> None:
    content = bytearray(PART)
    for place, new, dropped in changes:
        content[place : place + dropped] = new
    readers(holding(tmp_path, bytes(content)))


def foreign(tmp_path, columns, metadata) -> None:
    try:
        table = pa.table({name: list(pair) for name, pair in columns.items()})
        table = table.replace_schema_metadata({METADATA_KEY: metadata})
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return  # no table
    readers(holding(tmp_path, buffer.getvalue()))


def plan(tmp_path, content) -> None:
    run = holding(tmp_path, PART)
    run.write(run.path("staging", "results", "rewrite.json"), content)
    try:
        rewrite.recover(run)
    except UsageError:
        assert len(run.sealed()) == 2


@tries(50)
@given(changes=edits)
def test_a_damaged_part(tmp_path, changes):
    damaged(tmp_path, changes)


@tries(50)
@given(columns=tables, metadata=said)
def test_a_foreign_part(tmp_path, columns, metadata):
    foreign(tmp_path, columns, metadata)


@tries(100)
@given(content=said)
def test_a_foreign_plan(tmp_path, content):
    plan(tmp_path, content)


@tries(100)
@given(place=st.integers(4, len(PART) // 4), bit=st.integers(0, 7))
def test_a_bit_that_flips_is_noticed_or_changes_nothing(tmp_path, place, bit):
    content = bytearray(PART)
    content[place] ^= 1 << bit
    run = holding(tmp_path, bytes(content))
    whole = pq.read_table(io.BytesIO(PART))
    try:
        found = parts.read(run.fs, run.path("results", "a.parquet"))
    except UsageError:
        return
    assert found.equals(whole)
