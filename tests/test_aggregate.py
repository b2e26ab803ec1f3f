import numpy as np
import pyarrow as pa
import pytest
from synthetic import curve, made, seal

from pipeline import UsageError, studies
from pipeline.rows import RunDir
from pipeline.statistics import intervals
from pipeline.studies.curves.highest import highest
from pipeline.studies.curves.tiles import heat

SETTINGS = {"subset": "all", "grid": 5, "resamples": 20, "confidence": 0.95, "seed": 0}


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = rng.normal(1.0, 1.0, size=(40, 1))
        low, high = intervals(values, resamples=500, seed=trial, confidence=0.9)
        covered += low[0] <= 1.0 <= high[0]
    assert 0.83 <= covered / 200 <= 0.96


def test_intervals_are_reproducible_and_shrink():
    values = np.random.default_rng(1).random((400, 3))
    one = intervals(values, resamples=300, seed=5, confidence=0.95)
    two = intervals(values, resamples=300, seed=5, confidence=0.95)
    np.testing.assert_array_equal(one[0], two[0])
    few = intervals(values[:25], resamples=300, seed=5, confidence=0.95)
    assert (one[1] - one[0] < few[1] - few[0]).all()


def test_heat_falls_with_the_pick_up_to_the_flip():
    assert heat([2, 0, 3, 1], 3, 5) == pytest.approx([2 / 3, 0, 1, 1 / 3, 0])
    assert heat([2, 0], None, 3) == pytest.approx([0.5, 0, 1])
    assert heat([1, 0], 0, 2) == pytest.approx([0, 0])


def curves_of(*pairs: tuple[list[float], list[float]]) -> pa.Table:
    columns = ("fraction", "probability")
    kinds = {c: pa.list_(pa.float32()) for c in columns}
    rows = [dict(zip(columns, pair, strict=True)) for pair in pairs]
    return pa.Table.from_pylist(rows, pa.schema(kinds))


def test_highest_confidence_counts_within_the_budget_and_images_that_miss_it():
    steps = np.arange(1, 9) / 8
    fine = ([0, *steps], [0.9, 0.1, 0.2, 0.7, 0.3, 0.1, 0.1, 0.8, 0.4])
    coarse = ([0, 0.6, 1], [0.05, 0.5, 0.3])
    highest_nP, missed_nP = highest(curves_of(fine, coarse))
    np.testing.assert_allclose(highest_nP, [[0.2, 0.7, 0.7, 0.8], [0.05, 0.05, 0.5, 0.5]])
    assert missed_nP.sum(0).tolist() == [1, 1, 0, 0]


def test_a_budget_is_reached_whatever_float32_makes_of_its_fraction():
    fraction_G = np.cumsum(np.full(36, np.float32(1 / 36)), dtype=np.float32)
    assert fraction_G[17] != 0.5
    probability_G = np.linspace(0, 1, 37)
    highest_nP, _ = highest(curves_of(([0, *fraction_G], list(probability_G))))
    np.testing.assert_allclose(highest_nP[0], np.array([9, 18, 27, 36]) / 36, rtol=1e-6)


def mistakes(tmp_path, **more) -> RunDir:
    """Three images explained for their label, which one of them is not taken for, and one label
    that nobody knows."""
    seen = {"a": (1, 1), "b": (2, 1), "c": (1, 1), "d": (2, None)}
    rows = [
        curve(key, "f", prediction=seen[key][0], label=seen[key][1], target=1 if key < "d" else 2)
        | more
        for key in seen
    ]
    return seal(tmp_path, (rows, made("f", target="label")))


@pytest.mark.parametrize(("subset", "n"), [("all", 4), ("correct", 2), ("wrong", 1)])
def test_mistakes_are_a_subset_of_their_own(tmp_path, subset, n):
    run = mistakes(tmp_path)
    (found,) = studies.findings(SETTINGS | {"out": run.out, "subset": subset})
    (summary,) = found.summary
    assert summary["n"] == n and summary["subset"] == subset
    told = "highest confidence" in found.table
    assert told == (subset != "correct") == ("Highest confidence" in found.section(0).html)
    for low, middle, high in (
        (summary[f"highest_{p}_low"], summary[f"highest_{p}"], summary[f"highest_{p}_high"])
        for p in (25, 50, 75, 100)
    ):
        assert low <= middle <= high


def test_a_subset_without_images_is_said(tmp_path):
    run = seal(tmp_path, ([curve("a", "f")], made("f")))
    with pytest.raises(UsageError, match="subset=wrong: no image has a label that its"):
        studies.findings(SETTINGS | {"out": run.out, "subset": "wrong"})


def test_images_without_a_step_inside_are_told(tmp_path):
    run = mistakes(tmp_path, fraction=[0, 0.3, 0.6, 0.9, 1], probability=[0.1, 0.2, 0.3, 0.4, 0.2])
    (found,) = studies.findings(SETTINGS | {"out": run.out})
    (summary,) = found.summary
    assert [summary[f"missed_{p}"] for p in (25, 50, 75, 100)] == [4, 0, 0, 0]
    assert [summary[f"highest_{p}"] for p in (25, 100)] == pytest.approx([0.1, 0.4])
    assert "0.100 [0.100, 0.100] (4 missed)" in found.table


def test_deletion_has_no_highest_confidence(tmp_path):
    rows = [curve("a", "f", objective=o) for o in ("insertion", "deletion")]
    (found,) = studies.findings(SETTINGS | {"out": seal(tmp_path, (rows, made("f"))).out})
    assert ["highest_25" in summary for summary in found.summary] == [False, True]
    assert "highest confidence" not in found.table
