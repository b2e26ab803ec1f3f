import numpy as np
import pytest

from pipeline.statistics import intervals
from pipeline.studies.curves.tiles import heat


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
