"""Commands as users give them: exit statuses, what they leave, a package of one's own."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from processes import ROOT, job

from jobs import aggregate, evaluate
from pipeline import UsageError
from pipeline.rows import RunDir
from pipeline.studies.curves.rows import CURVES


def test_a_usage_error_is_exit_status_2_and_leaves_nothing_behind(tmp_path):
    out = tmp_path / "run"
    given = ["dataset.name=x", "dataset.shards=/nowhere/x.tar", f"out={out}"]
    done = job("evaluate", *given, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: dataset.shards: /nowhere/x.tar does not exist; check the path\n"
    assert not out.exists()


def test_sweeps_leave_hydras_files_nowhere(tmp_path):
    """Each job of a sweep runs; the working directory holds what the jobs write and no more."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "demo", "-m", "out=a,b", "samples_per_shard=4"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_package_of_ones_own_needs_no_fork(tmp_path, demo_shards, monkeypatch):
    """A masking, players, a method, a score and a search of another package (tests/data/tinypkg),
    their YAML beside them, through Ray and into the report."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "data"))
    out = tmp_path / "run"
    asked = ["dataset=demo", f"dataset.shards={demo_shards}", "dataset.limit=2", f"out={out}"]
    asked += ["players=stripes", "masking=grey", "methods=[in_order,certainty]"]
    asked += [f"hydra.searchpath=[file://{ROOT}/tests/data/tinypkg/conf]"]
    asked += ["tracking=disabled", "cluster.actors=1"]
    with pytest.raises(UsageError, match=r"_target_: tinypkg\.parts\.\w+ is not part of pipeline"):
        evaluate.main.settings(asked)
    job("evaluate", *asked, "plugins=[tinypkg]")
    kept = yaml.safe_load((out / "config.yaml").read_text())
    assert kept["masking"] == {"_target_": "tinypkg.parts.Grey", "level": 0.4}
    assert "plugins=[tinypkg]" in (out / "command.txt").read_text()
    rows = RunDir(str(out), CURVES).read().to_pylist()
    said = {(r["method"], r["objective"], r["evaluations"]) for r in rows}
    assert said == {
        ("in_order", "insertion", 0),
        ("in_order", "deletion", 0),
        ("certainty", "insertion", 4),
    }
    assert {(r["status"], r["players"], r["masking"]) for r in rows} == {
        ("ok", "stripes", "grey(level=0.4)")
    }
    monkeypatch.syspath_prepend(ROOT / "tests" / "data")
    given = [f"out={out}", "tracking=disabled", "resamples=10"]
    with pytest.raises(UsageError, match=r"tinypkg\.parts\.Stripes is not part of pipeline"):
        aggregate.main.job(aggregate.main.settings(given))
    aggregate.main.job(aggregate.main.settings([*given, "plugins=[tinypkg]"]))
    assert Path(out / "report" / "index.html").exists()
