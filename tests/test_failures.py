"""Rows that failed: told by their reasons at the end, on top of the report, in the exit status."""

from collections import Counter
from dataclasses import replace

import pytest
from synthetic import curve, made, seal

from jobs import aggregate, evaluate
from pipeline import RunError, workers


def outcome(**failures: int) -> workers.Outcome:
    return workers.Outcome(images=10, rows=20, failures=Counter(failures))


@pytest.fixture
def finish(monkeypatch):
    def complete(done, max_failed=0.05):
        told = replace(done, max_failed=max_failed)
        monkeypatch.setattr(workers, "run", lambda study, settings, accepted: told)
        tracked = {"mode": "disabled"}
        settings = {"out": "run", "max_failed": max_failed, "tracking": tracked}
        evaluate.complete("curves", settings)

    return complete


def test_too_many_failures_are_an_error_that_says_why(finish, capsys):
    with pytest.raises(
        RunError, match=r"^2 of 20 rows failed: bad \(2\); .*max_failed=0.05: .*retry="
    ):
        finish(outcome(bad=2))
    assert "next" not in capsys.readouterr().out
    finish(outcome(bad=2), max_failed=0.1)
    assert "2 of 20 rows failed: bad (2); retry=failed" in capsys.readouterr().out
    finish(outcome(), max_failed=0)
    assert "failed" not in capsys.readouterr().out


def test_an_aggregation_says_what_failed_and_why(tmp_path, capsys):
    bad = [curve(k, "f", status="failed", error=f"'{k}' <cut> off at {k}") for k in "cd"]
    seal(tmp_path, ([curve("a", "f"), curve("b", "f"), *bad], made("f")))
    given = [f"out={tmp_path}", "tracking=disabled", "resamples=10", "gallery=0"]
    aggregate.main.job(aggregate.main.settings(given))
    assert "2 of 4 rows failed: ... <cut> off at" in capsys.readouterr().out
    page = (tmp_path / "report" / "index.html").read_text()
    assert '<p class="error">2 of 4 rows failed: ... &lt;cut&gt; off at' in page
