"""A search from both ends: where they meet, when it ends, what it costs."""

import pytest
import torch
from conftest import moxi
from test_backward import SCORES, agrees_with_greedy, along, backward, is_of_its_order
from test_revised import baited
from test_screened import small_vit
from test_searches import Curved

from pipeline import UsageError
from pipeline.api import explain
from pipeline.methods import play
from pipeline.methods.subset import Subset
from pipeline.scores.target import Target
from pipeline.searches.backward import Backward
from pipeline.searches.both_ends import BothEnds
from pipeline.searches.greedy import Greedy
from pipeline.searches.probes.first_order import FirstOrder
from pipeline.searches.probes.kv_frozen import KvFrozen
from pipeline.searches.probes.stale import Stale
from pipeline.searches.revised import Revised
from pipeline.searches.screened import Screened


def both_ends(objective="insertion", stop=None, **settings):
    search = BothEnds(**({"front": Greedy()} | settings))
    return Subset(score=SCORES[objective], search=search, **(stop or {}))


@pytest.mark.parametrize("steps", [1, 4, 7, 8, 20])
@pytest.mark.parametrize("objective", SCORES)
def test_in_an_additive_game_all_ways_are_one(objective, steps):
    agrees_with_greedy(both_ends(objective, steps=steps), objective)


@pytest.mark.parametrize("objective", SCORES)
def test_the_front_is_its_search_and_the_rest_backward_elimination(objective):
    for seed in range(4):
        game = Curved(13, seed, once=False)
        method = both_ends(objective, steps=5, behind=Backward(risk=0.01))
        found = play(method, game, 13)[objective]
        assert found.order[:5] == play(moxi(objective), game, 13)[objective].order[:5]
        is_of_its_order(found, game, objective)
        assert found.evaluations <= method.most_forwards(13)


def test_the_front_ends_where_enough_is_reached():
    game = Curved(11, 3, once=False)
    whole = play(moxi("insertion"), game, 11)["insertion"]
    reach = float(along(whole)[2])
    early = play(both_ends(steps=11, reach=reach), game, 11)["insertion"]
    same = play(both_ends(steps=3), game, 11)["insertion"]
    assert early.order == same.order
    assert early.order != play(both_ends(steps=11), game, 11)["insertion"].order == whole.order


@pytest.mark.parametrize("budget", [2, 4, 8])
def test_an_early_end_is_the_head_of_the_order(budget):
    game = Curved(11, 3, once=False)
    full = play(both_ends(steps=4), game, 11)["insertion"]
    stop = {"stop": "budget", "budget": budget}
    head = play(both_ends(steps=4, stop=stop), game, 11)["insertion"]
    assert head.order == full.order[:budget]
    torch.testing.assert_close(along(head), along(full)[:budget])
    if budget <= 4:
        assert head.evaluations < full.evaluations
    assert head.details == {"front": min(budget, 4)}


def test_a_slow_front_is_given_up():
    """p is .12 with one bait, .27 with both, no more with a third player, and .27 with all: .73 is
    short of 1. Elimination comes from all and meets the trio."""

    def hindered(coalitions_CN):
        return baited(coalitions_CN) - 2 * coalitions_CN[:, [3, 5, 7]].double().sum(1)

    fast, slow = (
        play(both_ends(steps=3, pace=pace), hindered, 8)["insertion"] for pace in (0.18, 0.19)
    )
    assert fast.order == play(both_ends(steps=3), hindered, 8)["insertion"].order
    assert fast.order[:2] == [0, 2]
    assert slow.order == play(backward(), hindered, 8)["insertion"].order
    assert set(slow.order[:3]) == {1, 4, 6}
    assert (fast.details, slow.details) == ({"front": 3}, {"front": 0})
    one = both_ends(steps=1, pace=9.0)
    assert play(one, hindered, 8)["insertion"].order[0] == 0, "the first has no pace"
    sure = both_ends(steps=3, pace=9.0)
    assert play(sure, baited, 8)["insertion"].order[:2] == [0, 2], "all are as good as 1"


def test_a_front_is_kept_where_the_score_is_no_log_odds():
    score = Target(read="probability")
    game = Curved(11, 3, once=False)
    slow, plain = (
        play(Subset(score=score, search=BothEnds(front=Greedy(), steps=4, pace=pace)), game, 11)
        for pace in (9.0, None)
    )
    assert slow["insertion"].order == plain["insertion"].order


@pytest.mark.parametrize("objective", SCORES)
def test_whether_a_front_is_given_up_does_not_hang_on_where_the_order_ends(objective):
    kept = set()
    for seed in range(8):
        game = Curved(11, seed, once=False)
        search = {"steps": 6, "pace": 0.2 * (1 + seed % 4)}
        method = both_ends(objective, **search)
        full = play(method, game, 11)[objective]
        is_of_its_order(full, game, objective)
        assert full.evaluations <= method.most_forwards(11)
        for budget in (2, 5, 8):
            stop = {"stop": "budget", "budget": budget}
            head = play(both_ends(objective, stop, **search), game, 11)[objective]
            assert head.order == full.order[:budget]
        kept.add(full.order == play(both_ends(objective, steps=6), game, 11)[objective].order)
    assert kept == {True, False}


def test_on_a_vision_transformer_it_takes_a_fraction():
    """Both ends with their probes, elimination alone, one revised by the other: each within what it
    says it may take."""
    model = small_vit()
    x_BCHW = torch.randn(2, 3, *model.input_hw, generator=torch.Generator().manual_seed(1))
    front = Screened(probe=KvFrozen(refresh=1, share=0.5), risk=0.0, most=3, saturated=None)
    behind = Backward(risk=0.02, probe=FirstOrder(), asked=10)
    both = BothEnds(front=front, steps=6, behind=behind)
    revised = Revised(search=both, first=12, again=behind, exchange=0.0)
    for search in (both, behind, revised):
        method = Subset(score=SCORES["insertion"], search=search)
        found = explain(model, x_BCHW, method=method, grid=5, masking="token_drop")
        assert all(sorted(order) == list(range(25)) for order in found.order)
        spent = [one["insertion"].evaluations for one in found.attributions]
        assert max(spent) <= method.most_forwards(25)
        assert max(spent) < 325 / 2


def test_settings_are_checked():
    with pytest.raises(UsageError, match=r"search\.steps=0"):
        BothEnds(steps=0)
    with pytest.raises(UsageError, match=r"search\.pace=-0\.1"):
        BothEnds(pace=-0.1)
    with pytest.raises(UsageError, match=r"search\.behind"):
        BothEnds(behind=Greedy())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"search\.probe"):
        Backward(probe=Stale())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="whole=0"):
        Backward(probe=FirstOrder(whole=1))
    with pytest.raises(UsageError, match="asked=-1"):
        Backward(asked=-1)
