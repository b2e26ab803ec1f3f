"""Whatever is written on a command line, it is settings or a refusal of one line."""

import logging

import pytest
from fuzzing import tries
from hypothesis import given
from hypothesis import strategies as st

from jobs import aggregate, compact, demo, evaluate, undesirable, verify
from pipeline import UsageError

JOBS = (aggregate, compact, demo, evaluate, undesirable, verify)
KEYS = """
    out cluster cluster.actors cluster.tries cluster.grace_s engine engine.precision retry dataset
    dataset.limit dataset.shards dataset.label players players.grid masking methods methods.x model
    model.name model.kwargs tracking tracking.mode lock.wait_s max_failed gallery subset trials nope
    experiment plugins +model.kwargs.x ~methods +nope.x samples_per_shard confidence
""".split()
WORDS = r"""
    null true -1 0 1e400 nan inf [] {} [a,b] {a:1} '' ??? ${out} ${nope} ${oc.env:NOPE} {0..9} a,b
    ' [ @ é \ quickstart local ray token_drop demo timm disabled moxi_insertion
""".split()
VALUES = st.one_of(
    st.sampled_from([*WORDS, "\x00"]),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=6),
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Relative paths lead nowhere that matters."""
    monkeypatch.chdir(tmp_path)
    logging.getLogger("hydra").setLevel(logging.ERROR)


@tries(30)
@given(st.sampled_from(JOBS), st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=4))
def test_a_command_line_is_settings_or_one_line(job, given_):
    try:
        found: object = job.main.settings([f"{key}={value}" for key, value in given_])
    except UsageError as error:
        found = str(error).strip()
    assert isinstance(found, dict) or (found and "\n" not in found)
