"""Backward elimination: what it finds, in which order, at which price."""

from dataclasses import replace
from typing import Literal

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
from pipeline.scores.target import Target
from pipeline.searches import prefixes
from pipeline.searches.backward import Backward
from pipeline.searches.probes.kv_frozen import KvFrozen

WEIGHTS = torch.tensor([0.3, -1.0, 2.0, 0.7, 2.5, 0.7, 0.1, 1.1]).double()
SCORES = {"insertion": Target(), "deletion": Target(visible="others", sign=-1)}
SHARES = (0.0, 0.25, 0.6, 1.0)


def backward(
    objective="insertion", stop: Literal["full", "budget"] = "full", budget=None, **settings
):
    return Subset(score=SCORES[objective], search=Backward(**settings), stop=stop, budget=budget)


def additive(coalitions_CN):
    return coalitions_CN.double() @ WEIGHTS - 1.5


def along(found):
    assert found.path is not None
    return found.path.value_C


def agrees_with_greedy(method, objective):
    """In an additive game."""
    found = play(method, additive, 8)[objective]
    exact = play(moxi(objective), additive, 8)[objective]
    assert found.order == exact.order
    torch.testing.assert_close(along(found), along(exact))


def is_of_its_order(found, game, objective):
    """The order is whole, the path what the game says of it."""
    assert sorted(found.order) == list(range(game.n))
    sets_CN = prefixes(found.order, game.n)
    value_C = game(sets_CN if objective == "insertion" else ~sets_CN).value_C
    torch.testing.assert_close(along(found), value_C)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("objective", SCORES)
def test_in_an_additive_game_both_ways_are_one(objective, share):
    """Equals stand in ascending order on both."""
    agrees_with_greedy(backward(objective, share=share), objective)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("objective", SCORES)
def test_the_path_is_that_of_the_order_and_the_price_is_kept(objective, share):
    for seed in range(5):
        game = Curved(13, seed, once=False)
        method = backward(objective, share=share)
        found = play(method, game, 13)[objective]
        is_of_its_order(found, game, objective)
        assert found.evaluations <= method.most_forwards(13)


def test_one_goes_a_round_at_the_price_of_greedy_search():
    game = Curved(9, once=False)
    method = backward(share=0)
    assert play(method, game, 9)["insertion"].evaluations == 9 * 10 // 2 == method.most_forwards(9)


def test_players_that_count_only_together_stay_together():
    """A forward search sees nothing of them until it has two."""
    trio, bait = [1, 4, 6], [0, 2]

    def value(coalitions_CN):
        together = coalitions_CN[:, trio].all(1).double()
        return 6 * together + coalitions_CN[:, bait].double().sum(1) - 3

    assert set(play(backward(), value, 8)["insertion"].order[:3]) == set(trio)
    assert play(moxi("insertion"), value, 8)["insertion"].order[:2] == bait


def test_who_is_missed_after_all_stays_for_the_next_round():
    """Twins stand in for one another: either may go, then the other may not."""
    asked = []

    def value(coalitions_CN):
        asked.append(len(coalitions_CN))
        twins_C = coalitions_CN[:, [2, 5]].any(1).double()
        return 4 * twins_C + coalitions_CN.double() @ torch.arange(1, 9).double() / 8 - 3

    found = play(backward(share=0.8), value, 8)["insertion"]
    assert asked[1:10] == [1, 8, 1, 1, 1, 1, 1, 2, 1], "six may go, and the second twin must not"
    assert found.order == [5, 7, 6, 4, 3, 2, 1, 0]


def test_an_early_end_is_the_head_of_the_order():
    game = Curved(11, 3, once=False)
    full = play(backward(share=0.8), game, 11)["insertion"]
    head = play(backward(stop="budget", budget=4, share=0.8), game, 11)["insertion"]
    assert head.order == full.order[:4]
    assert np.allclose(along(head), along(full)[:4])


def test_who_costs_little_goes_without_another_round():
    """Risk is of probability: what falls from 1 to a half is no small matter, flat as both are."""

    def value(coalitions_CN):  # each of the first four is missed once another of them has gone
        few_C = coalitions_CN[:, :4].double().sum(1)
        return 0.01 * few_C - 0.02 * (4 - few_C) ** 2 + 8 * coalitions_CN[:, 4:].double().sum(1)

    asked = [
        play(backward(share=0.5, risk=risk), value, 8)["insertion"].evaluations
        for risk in (0.0, 0.02, 0.0201)
    ]
    assert asked[0] >= asked[1] >= asked[2]
    assert asked[0] > asked[2]
    for seed in range(5):
        game = Curved(13, seed, once=False)
        careful, bold = (
            play(backward(share=0.6, risk=risk), game, 13)["insertion"] for risk in (0.0, 0.05)
        )
        assert bold.evaluations <= careful.evaluations

    def twins(coalitions_CN):  # p is 1 with either of two, a half with none
        some_C = coalitions_CN[:, [2, 5]].any(1).double()
        return 30 * some_C + coalitions_CN.double() @ torch.arange(8).double() / 1e3

    assert set(play(backward(share=0.8, risk=0.1), twins, 8)["insertion"].order[:1]) & {2, 5}


def test_a_pass_ranks_the_first_round_of_a_vision_transformer():
    model = small_vit()
    x_BCHW = torch.randn(2, 3, *model.input_hw, generator=torch.Generator().manual_seed(1))
    spent = []
    for probe in (None, KvFrozen()):
        method = backward(risk=0.02, probe=probe, asked=24)
        found = explain(model, x_BCHW, method=method, grid=5, masking="token_drop")
        assert all(sorted(order) == list(range(25)) for order in found.order)
        spent += [one["insertion"].evaluations for one in found.attributions]
        assert max(spent) <= method.most_forwards(25)
    assert max(spent[2:]) < min(spent[:2])
    with pytest.raises(UsageError, match="need masking=token_drop"):
        explain(model, x_BCHW, method=method, grid=5, masking="zero")


def test_of_all_who_are_missed_the_one_who_is_missed_least_goes():
    """The probe's word alone lets nobody go: this one ranks upside down."""

    class UpsideDown(KvFrozen):
        def ask(self, asked):
            return replace(asked, coalitions_CN=asked.coalitions_CN.flip(0))

    def value(coalitions_CN):
        return coalitions_CN.double() @ torch.arange(1, 9).double()

    method = backward(share=0.5, probe=UpsideDown(), asked=2)
    assert play(method, value, 8)["insertion"].order == [7, 0, 1, 2, 6, 5, 3, 4]


def test_a_ranking_is_made_anew_where_the_prediction_has_moved():
    """Four players stand in the way: without them p is .02, .05, .12, .27, a half."""
    looks = []

    class Exact(KvFrozen):
        def ask(self, asked):
            looks.append(len(asked.coalitions_CN))
            return asked

    def value(coalitions_CN):
        return -coalitions_CN[:, 4:].double().sum(1)

    seen = {}
    for moved in (None, 0.05, 0.0):
        looks.clear()
        method = backward(share=0.5, risk=0.01, probe=Exact(), asked=2, moved=moved)
        order = play(method, value, 8)["insertion"].order
        assert set(order[:4]) == {0, 1, 2, 3}
        seen[moved] = list(looks)
    assert seen == {None: [8, 4], 0.05: [8, 6, 5, 4], 0.0: [8, 7, 6, 5, 4]}


@pytest.mark.parametrize(
    "wrong", [{"share": 1.5}, {"share": -0.1}, {"risk": -0.1}, {"moved": -0.1}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Backward(**wrong)
