import numpy as np
import torch
from conftest import table_game

from pipeline.game import Outputs
from pipeline.judges.areas import auc
from pipeline.judges.curves import coalitions, curve, flip, fractions


def outputs(values_C) -> Outputs:
    values_C1 = torch.as_tensor(values_C).double()[:, None]
    return Outputs.of(
        classes=(0,),
        logits_CT=values_C1,
        log_odds_CT=values_C1,
        prediction_C=(values_C1[:, 0] <= 0).long(),
    )


def judge(value, order, n_players, objective):
    ends = outputs(value(torch.tensor([[False] * n_players, [True] * n_players])))
    coroutine = curve(order, n_players, objective, ends)
    answer, asked = None, 0
    try:
        while True:
            coalitions_CN = coroutine.send(answer).coalitions_CN
            asked += len(coalitions_CN)
            answer = outputs(value(coalitions_CN))
    except StopIteration as stop:
        return stop.value, asked


def test_deletion_of_the_reversed_order_is_insertion_reversed():
    for seed in range(10):
        value = table_game(6, seed)
        order = np.random.default_rng(seed).permutation(6).tolist()
        deleted, _ = judge(value, order[::-1], 6, "deletion")
        inserted, _ = judge(value, order, 6, "insertion")
        torch.testing.assert_close(deleted.value_C, inserted.value_C.flip(0))


def test_end_points_are_real_and_nothing_is_asked_twice():
    value = table_game(5)
    found, asked = judge(value, [3, 1, 4, 0, 2], 5, "insertion")
    assert len(found.value_C) == 6
    assert asked == 4
    assert found.value_C[0] == value(torch.zeros(1, 5).bool())[0]
    assert found.value_C[-1] == value(torch.ones(1, 5).bool())[0]


def test_a_search_that_saw_its_path_asks_nothing():
    value = table_game(5)
    order = [3, 1, 4, 0, 2]
    path = outputs(value(coalitions(order, 5, "deletion")))
    ends = outputs(value(torch.tensor([[False] * 5, [True] * 5])))
    coroutine = curve(order, 5, "deletion", ends, path)
    try:
        next(coroutine)
        raise AssertionError("asked for what it had been given")
    except StopIteration as stop:
        found = stop.value
    expected, _ = judge(value, order, 5, "deletion")
    torch.testing.assert_close(found.value_C, expected.value_C)


def test_an_order_that_stops_early_is_closed_by_the_end_point():
    value = table_game(5)
    found, _ = judge(value, [3, 1], 5, "deletion")
    assert len(found.value_C) == 4
    assert found.value_C[-1] == value(torch.zeros(1, 5).bool())[0]
    share = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2]).double()
    np.testing.assert_allclose(fractions([3, 1], share), [0, 0.2, 0.4, 1])


def test_auc_is_the_trapezoid_over_pixels():
    x = np.linspace(0, 1, 20001)
    assert abs(auc(x, np.exp(-20 * x)) - 0.05) < 1e-6
    assert auc(np.array([0, 0.25, 1.0]), np.array([0.0, 1.0, 1.0])) == 0.875


def test_flip_is_the_first_change():
    assert flip(torch.tensor([False, False, True, False]), "insertion") == 2
    assert flip(torch.tensor([True, False, True]), "deletion") == 1
    assert flip(torch.tensor([True, True]), "deletion") is None
