"""Pooled elimination: what it finds, what it infers, at which price."""

import numpy as np
import pytest
import torch
from conftest import moxi
from test_screened import small_vit
from test_searches import Curved

from pipeline import UsageError
from pipeline.api import explain
from pipeline.methods import play
from pipeline.methods.subset import Subset
from pipeline.players.patch_grid import PatchGrid
from pipeline.scores.target import Target
from pipeline.searches import prefixes
from pipeline.searches.missed import TOGETHER, Missed, distances, matched
from pipeline.searches.pooled import Pooled

WEIGHTS = torch.tensor([0.3, -1.0, 2.0, 0.7, 2.5, 0.7, 0.1, 1.1]).double()
SCORES = {"insertion": Target(), "deletion": Target(visible="others", sign=-1)}


def pooled(objective="insertion", **settings):
    return Subset(score=SCORES[objective], search=Pooled(**settings))


@pytest.mark.parametrize("front", [0, 3, 8])
@pytest.mark.parametrize("objective", SCORES)
def test_an_additive_game_is_sorted_where_everybody_is_evaluated_alone(objective, front):
    """Equals stand in ascending order."""

    def value(coalitions_CN):
        return coalitions_CN.double() @ WEIGHTS - 1.5

    method = pooled(objective, front=front, asked=1.0, pairs=8)
    found = play(method, value, 8)[objective]
    assert found.order == play(moxi(objective), value, 8)[objective].order


@pytest.mark.parametrize("objective", SCORES)
@pytest.mark.parametrize("n_players", [2, 3, 13, 30])
def test_the_path_is_that_of_the_order_and_the_price_is_kept(objective, n_players):
    for seed in range(4):
        game = Curved(n_players, seed, once=False)
        method = pooled(objective)
        found = play(method, game, n_players)[objective]
        assert sorted(found.order) == list(range(n_players))
        sets_CN = prefixes(found.order, n_players)
        value_C = game(sets_CN if objective == "insertion" else ~sets_CN).value_C
        assert found.path is not None
        torch.testing.assert_close(found.path.value_C, value_C)
        assert found.evaluations <= method.most_forwards(n_players)


def test_players_that_count_only_together_stay_together():
    """Without a front: a forward search sees nothing of them until it has two."""
    trio, bait = [1, 4, 6], [0, 2]

    def value(coalitions_CN):
        together = coalitions_CN[:, trio].all(1).double()
        return 6 * together + coalitions_CN[:, bait].double().sum(1) - 3

    assert set(play(pooled(front=0, pairs=4), value, 8)["insertion"].order[:3]) == set(trio)
    assert set(play(pooled(front=2), value, 8)["insertion"].order[:2]) == set(bait)


def test_twos_cost_half_of_what_single_players_do():
    asked = []

    def value(coalitions_CN):
        asked.append(len(coalitions_CN))
        return coalitions_CN.double() @ torch.arange(20).double()

    for pairs in (12, 20):
        asked.clear()
        play(pooled(front=0, asked=1.0, share=0.0, pairs=pairs), value, 20)
        assert asked[1:4] == [1, 10, 1] if pairs == 12 else [1, 20, 1]


def test_what_a_single_player_is_missed_by_is_known_exactly():
    missed = Missed(distances(PatchGrid(grid=3).cut(9, 9), 9))
    missed.see([[0], [4], [8]], np.array([-1.0, -2.0, -6.0]))
    assert np.allclose(missed.mean_N[[0, 4, 8]], [-1, -2, -6])
    assert np.allclose(missed.spread_N[[0, 4, 8]], 0)
    assert (missed.spread_N[[1, 2, 3, 5, 6, 7]] > 0).all()
    assert missed.mean_N[5] < missed.mean_N[3], "5 is next to 8, 3 next to 0"
    before_N = missed.spread_N
    missed.age()
    assert (missed.spread_N > before_N).all()


def test_two_sums_that_share_a_player_tell_about_each():
    """The posterior of a Gaussian prior, against the formula in matrices."""
    missed = Missed(distances(None, 3))
    missed.see([[0, 1], [2]], np.array([-4.0, 0.0]))
    missed.see([[1, 2]], np.array([-3.0]))
    sums_G = np.array([-4.0, 0.0, -3.0])
    lacking_GN = np.array([[1.0, 1, 0], [0, 0, 1], [0, 1, 1]])
    each_G = np.array([-2.0, 0.0])
    variance, expected = each_G.var() * 1.5, each_G.mean()
    noise_G = TOGETHER * variance * np.array([1, 0, 1])
    gain_NG = (
        variance
        * lacking_GN.T
        @ np.linalg.inv(variance * lacking_GN @ lacking_GN.T + np.diag(noise_G))
    )
    mean_N = expected + gain_NG @ (sums_G - lacking_GN.sum(1) * expected)
    assert np.allclose(missed.mean_N, mean_N)


def test_neighbours_are_matched_and_next_time_others():
    distance_NN = distances(PatchGrid(grid=4).cut(8, 8), 16)
    assert distance_NN[0, 1] == distance_NN[0, 4] == pytest.approx(1)
    players = np.array([0, 1, 2, 3, 5, 10, 15])
    first = matched(players, distance_NN, set())
    assert sorted(one for group in first for one in group) == players.tolist()
    assert [len(group) for group in first] == [2, 2, 2, 1]
    again = matched(players, distance_NN, {frozenset(group) for group in first})
    assert not {frozenset(group) for group in first[:2]} & {frozenset(group) for group in again}


def test_the_front_may_be_ranked_by_passes_of_a_vision_transformer():
    model = small_vit()
    x_BCHW = torch.randn(2, 3, *model.input_hw, generator=torch.Generator().manual_seed(1))
    spent = []
    for frozen in (None, 0.5):
        method = pooled(frozen=frozen)
        found = explain(model, x_BCHW, method=method, grid=5, masking="token_drop")
        assert all(sorted(order) == list(range(25)) for order in found.order)
        spent += [one["insertion"].evaluations for one in found.attributions]
        assert max(spent) <= pooled(frozen=None).most_forwards(25)
    assert max(spent[2:]) < min(spent[:2])
    with pytest.raises(UsageError, match="need masking=token_drop"):
        explain(model, x_BCHW, method=method, grid=5, masking="zero")


@pytest.mark.parametrize(
    "wrong",
    [
        {"asked": 1.5},
        {"share": -0.1},
        {"frozen": 2.0},
        {"risk": -0.1},
        {"verify": 0},
        {"front": -1},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Pooled(**wrong)
