"""The verdict: who wins, by how much, how sure, and who cannot be told apart."""

import numpy as np
import pytest
from synthetic import curve, made, seal

from pipeline import studies
from pipeline.studies.curves import verdict
from pipeline.studies.curves.statistics import aggregate

SETTINGS = {"subset": "all", "grid": 5, "resamples": 500, "confidence": 0.95, "seed": 0}


def run_of(tmp_path, areas: dict[str, list[float | None]], objective: str = "insertion"):
    """Rows with these areas, one an image; None failed."""
    parts = []
    for method, values in areas.items():
        rows = [
            curve(f"{i:03}", method, method, objective=objective, auc_probability=area)
            | ({} if area is not None else {"status": "failed", "error": "no"})
            for i, area in enumerate(values)
        ]
        parts.append((rows, made(method, method)))
    return seal(tmp_path / "run", *parts)


def found_in(run, **more) -> list[verdict.Verdict]:
    settings = SETTINGS | {"out": run.out} | more
    found = aggregate(run, settings)
    return verdict.verdicts(found.compared)


def test_a_small_but_steady_lead_wins_where_intervals_of_areas_overlap(tmp_path):
    spread = np.linspace(0.1, 0.9, 20)
    run = run_of(tmp_path, {"a": list(spread), "b": list(spread - 0.02), "c": list(spread / 2)})
    (one,) = found_in(run)
    assert (one.title, one.n, one.sure, one.tied) == ("a", 20, 1.0, [])
    nearest, far = one.rivals
    assert nearest.title == "b" and nearest.behind == far.behind == 20
    assert (nearest.low, nearest.difference, nearest.high) == pytest.approx((0.02,) * 3)
    assert one.marks == {"a": "best"}
    (found,) = studies.findings(SETTINGS | {"out": run.out})
    html = found.section(0).html
    assert "<b>a</b> wins" in html and "0.020 [0.020, 0.020]" in html
    assert html.count('class="best"') == 1 and "≈</span>" not in html


def test_what_cannot_be_told_apart_is_no_winner(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (2, 30))
    run = run_of(tmp_path, {"a": list(0.5 + noise[0]), "b": list(0.5 + noise[1])})
    (one,) = found_in(run)
    (rival,) = one.tied
    assert rival.low <= 0 <= rival.high and one.marks[rival.title] == "tie"
    (found,) = studies.findings(SETTINGS | {"out": run.out})
    html = found.section(0).html
    assert "cannot be told apart from" in html and html.count("≈</span>") == 1


def test_of_deletion_the_smallest_area_is_the_best(tmp_path):
    (one,) = found_in(run_of(tmp_path, {"a": [0.5] * 4, "b": [0.2] * 4}, "deletion"))
    assert one.title == "b" and one.rivals[0].difference == pytest.approx(0.3)


def test_methods_are_compared_on_the_images_that_both_have(tmp_path):
    (one,) = found_in(run_of(tmp_path, {"a": [0.4] * 4, "b": [0.1, 0.1, 0.1, None]}))
    assert one.n == one.rivals[0].n == 3 and one.area == pytest.approx(0.4)


def test_the_page_says_what_the_table_says_whatever_the_reference_is(tmp_path):
    rng = np.random.default_rng(1)
    areas = {m: list(rng.normal(0.5 - 0.02 * i, 0.1, 9)) for i, m in enumerate("abc")}
    run = run_of(tmp_path, areas)
    (one,) = found_in(run)
    assert (one,) == tuple(found_in(run, against="c"))
    (found,) = studies.findings(SETTINGS | {"out": run.out})
    html, rival = found.section(0).html, one.rivals[0]
    assert f"{rival.difference:.3f} [{rival.low:.3f}, {rival.high:.3f}]" in html
    ends = sorted((-rival.low, -rival.high))
    assert f"{-rival.difference:+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]" in found.table


def test_one_method_alone_is_no_contest(tmp_path):
    run = run_of(tmp_path, {"a": [0.5, 0.6]})
    assert found_in(run) == []
    (found,) = studies.findings(SETTINGS | {"out": run.out})
    assert "wins" not in found.section(0).html
