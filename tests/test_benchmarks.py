"""The benchmarks play the same games as the jobs do."""

import importlib
import json
import os
import sys
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from benchmarks import gpu, host, turns
from pipeline.engine import Engine
from pipeline.engine.device import ENVIRONMENT


@pytest.mark.parametrize(
    "name",
    [
        "composing",
        "gpu",
        "growth",
        "host",
        "imputation",
        "index",
        "leases",
        "moxi",
        "overhead",
        "perturbations",
        "resume",
        "screened",
        "searches",
        "undesirable",
        "undesirable_minimum",
        "verified",
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


def test_a_benchmark_starts_itself_anew_as_workers_are_started(monkeypatch):
    begun = Mock()
    monkeypatch.setattr(turns.os, "execve", begun)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    turns.as_workers()
    (program, command, environment), _ = begun.call_args
    assert [program, *command] == [sys.executable, sys.executable, *sys.orig_argv[1:]]
    assert environment == os.environ | ENVIRONMENT | {"MALLOC_ARENA_MAX": "2"}
    monkeypatch.setattr(turns.os, "environ", environment)
    turns.as_workers()
    begun.assert_called_once()


def test_turns_go_back_and_forth():
    seen = []
    runs = {name: lambda piece, n=name: seen.append(f"{n}{piece}") or piece for name in "ab"}
    spent = turns.in_turns(runs, [1, 2], 2, torch.device("cpu"))
    assert seen == "a1 b1 b2 a2 b1 a1 a2 b2".split()
    assert [[turn.result for turn in piece] for piece in spent["a"]] == [[1, 1], [2, 2]]
    assert turns.seconds(spent["b"], "cpu").shape == (2, 2)


def test_a_ratio_of_turns_does_not_see_what_slowed_both_down():
    slowed_PR = np.random.default_rng(0).uniform(1, 10, (4, 5))
    assert turns.ratio(3 * slowed_PR, slowed_PR) == pytest.approx((3, 3, 3))
    value, low, high = turns.ratio(slowed_PR, slowed_PR[:, ::-1])
    assert low < value < high and value == pytest.approx(1)


@pytest.mark.slow
def test_every_schedule_runs_and_is_drawn(tmp_path, capsys):
    models = ["--device", "cpu", "--short", "--budget", "2", "--in-flight", "2"]
    gpu.main([*models, "--out", str(tmp_path)])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| test_")]
    assert len(rows) == 2 * (1 + 2 * (len(gpu.SCHEDULES) - 1))
    lines = json.loads((tmp_path / "gpu.json").read_text())["lines"]
    assert {line["schedule"] for line in lines} == set(gpu.SCHEDULES)
    forwards = {(x["model"], x["schedule"], x["in flight"]): x["forwards/image"] for x in lines}
    for model, grid in gpu.SHORT:
        n = grid**2
        assert forwards[model, "naive", 1] == 2 * n
        assert forwards[model, "fp32", 1] == forwards[model, "bf16", 4] == 2 + n + n - 1
    assert (tmp_path / "gpu.png").stat().st_size > 0
