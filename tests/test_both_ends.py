"""A search from both ends: where they meet, when it ends, what it costs."""

import pytest
import torch
from conftest import moxi
from test_backward import SCORES, agrees_with_greedy, along, is_of_its_order
from test_screened import small_vit
from test_searches import Curved

from pipeline import UsageError
from pipeline.api import explain
from pipeline.methods import play
from pipeline.methods.subset import Subset
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
    with pytest.raises(UsageError, match=r"search\.behind"):
        BothEnds(behind=Greedy())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"search\.probe"):
        Backward(probe=Stale())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="asked=-1"):
        Backward(asked=-1)
