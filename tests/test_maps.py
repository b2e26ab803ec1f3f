"""Every pixel of a map has a value, and those that nobody ranked have the lowest."""

import numpy as np
import pytest

from pipeline.maps import assigned_values, both_ways, ranks


def test_ranks_fall_by_one_a_pick_and_the_rest_lies_below():
    assert ranks([2, 0, 3, 1], 4).tolist() == [3, 1, 4, 2]
    assert ranks([2, 0], 5).tolist() == [4, 0, 5, 0, 0]
    assert ranks([], 2).tolist() == [0, 0]


def test_assigned_values_fall_by_what_each_pick_changes():
    values_N = assigned_values([2, 0, 1], [0.1, 0.5, 0.7, 0.6], 3)
    assert values_N == pytest.approx([1 / 3, 0, 1])  # v = -.4, -.6, -.7
    other_N = assigned_values([2, 0, 1], -np.array([0.1, 0.5, 0.7, 0.6]), 3)
    assert other_N == pytest.approx(values_N)  # a fall counts like a rise


@pytest.mark.parametrize("kept", range(6))
@pytest.mark.parametrize("seed", range(3))
def test_players_without_a_place_are_strictly_lowest_and_the_order_is_kept(kept, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(6)[:kept].tolist()
    for values_N in (ranks(order, 6), assigned_values(order, rng.random(kept + 1), 6)):
        left = [player for player in range(6) if player not in order]
        assert len(set(values_N[left])) <= 1
        assert (np.diff(values_N[order]) <= 0).all()
        assert not kept or not left or values_N[order].min() > values_N[left].max()
        if kept > 1:
            assert values_N[order].max() > values_N[order].min()


def test_a_function_that_never_changes_ranks_nobody_above_another():
    assert assigned_values([1, 0], [0.5, 0.5, 0.5], 3).tolist() == [1, 1, -0.5]
    assert assigned_values([1], [0.2, 0.9], 2).tolist() == [-1, 1]


def test_a_search_that_looks_both_ways_starts_at_what_the_ends_say():
    empty, full = 0.01, 0.8
    shown_G, left_G = np.array([empty, 0.6, full]), np.array([full, 0.3, empty])
    values_G = both_ways(shown_G, left_G)
    assert values_G == pytest.approx([empty + 1 - full, 1.3, full + 1 - empty])
    order = [1, 0]
    assert assigned_values(order, values_G, 2) == pytest.approx(
        assigned_values(order, shown_G - left_G, 2)
    )
