"""Rows written before orders had addresses of their own (tests/data/old_run) are still rows."""

import shutil

import pytest
from conftest import ROOT

from jobs import aggregate
from pipeline.rows import RunDir
from pipeline.studies.curves.rows import CURVES


@pytest.fixture
def old(tmp_path):
    return shutil.copytree(ROOT / "tests" / "data" / "old_run", tmp_path / "run")


def test_an_old_run_directory_is_aggregated(old, capsys):
    aggregate.main.job(aggregate.main.settings([f"out={old}", "tracking=disabled", "resamples=50"]))
    said = capsys.readouterr().out
    for method in ("moxi_insertion", "gradcam", "pairwise", "f_tc", "f_ntc"):
        assert method in said
    page = (old / "report" / "index.html").read_text()
    assert "Undesirable pixels" in page and "gradcam" in page
    rows = RunDir(str(old), CURVES).read().to_pylist()
    assert {row["order_fingerprint"] for row in rows} == {None}
