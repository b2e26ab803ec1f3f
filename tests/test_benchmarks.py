"""The benchmarks play the same games as the jobs do."""

import importlib

import pytest

from benchmarks import host
from pipeline.engine import Engine


@pytest.mark.parametrize(
    "name",
    [
        "composing",
        "growth",
        "host",
        "imputation",
        "index",
        "leases",
        "moxi",
        "overhead",
        "perturbations",
        "resume",
        "searches",
        "undesirable",
        "undesirable_minimum",
    ],
)
def test_benchmarks_can_be_imported(name):
    assert importlib.import_module(f"benchmarks.{name}").main


def test_the_null_model_is_asked_for_every_set_of_both_searches():
    job = host.work(grid=3)
    engine = Engine(job.model, tokens_per_batch=40)
    found = list(engine.run([host.task(job, i) for i in range(3)], in_flight=2))
    assert engine.counters.forwards == 3 * (2 + 2 * 9 * 10 // 2)
    for rows in found:
        assert [row["status"] for row in rows] == ["ok", "ok"]
        assert all(sorted(row["order"]) == list(range(9)) for row in rows)
