"""An order looked at again: what is gained, what stays, and for which price."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import moxi
from test_backward import SCORES, agrees_with_greedy, along, is_of_its_order
from test_searches import Curved

from pipeline import UsageError
from pipeline.game import drive
from pipeline.methods import play
from pipeline.methods.subset import Subset
from pipeline.scores import Scored
from pipeline.scores.target import Target
from pipeline.searches import prefixes
from pipeline.searches.backward import Backward
from pipeline.searches.exchange import exchanged
from pipeline.searches.greedy import Greedy
from pipeline.searches.revised import Revised


def revised(objective="insertion", stop=None, search=None, **settings):
    search = Revised(search=search or Greedy(), **settings)
    return Subset(score=SCORES[objective], search=search, **(stop or {}))


def area(found, objective="insertion"):
    """In probability of the target, or of the others."""
    return float(((1 if objective == "insertion" else -1) * along(found)).sigmoid().sum())


def baited(coalitions_CN):
    """Three players count only together, two others a little each."""
    together_C = coalitions_CN[:, [1, 4, 6]].all(1).double()
    return 6 * together_C + coalitions_CN[:, [0, 2]].double().sum(1) - 3


@pytest.mark.parametrize("objective", SCORES)
def test_in_an_additive_game_nothing_is_to_be_revised(objective):
    agrees_with_greedy(revised(objective, first=5, exchange=0.0), objective)


@pytest.mark.parametrize("search", [Greedy(), Backward(share=0.8, risk=1.0)])
@pytest.mark.parametrize("objective", SCORES)
def test_no_area_is_lost_by_it_and_some_is_gained(objective, search):
    gained = 0.0
    for seed in range(6):
        game = Curved(13, seed, once=False)
        plain = play(Subset(score=SCORES[objective], search=search), game, 13)[objective]
        method = revised(objective, search=search, first=8, exchange=0.0)
        found = play(method, game, 13)[objective]
        is_of_its_order(found, game, objective)
        assert area(found, objective) >= area(plain, objective)
        assert found.evaluations <= method.most_forwards(13)
        gained += area(found, objective) - area(plain, objective)
    assert gained > 0


@pytest.mark.parametrize("objective", SCORES)
def test_no_set_is_worth_less_by_exchange_and_some_are_worth_more(objective):
    sign, gained = (1 if objective == "insertion" else -1), 0.0
    for seed in range(6):
        game = Curved(13, seed, once=False)
        plain, mended = (
            play(
                revised(objective, search=Backward(share=0.8, risk=1.0), first=0, exchange=least),
                game,
                13,
            )[objective]
            for least in (None, 0.0)
        )
        gain_C = sign * (along(mended) - along(plain))
        assert gain_C.min() >= 0
        assert mended.evaluations <= plain.evaluations + 12
        gained += float(gain_C.sum())
    assert gained > 0


def test_who_counts_only_together_comes_first_after_all():
    """If all of them are among those who are looked at again."""
    greedy = [0, 2, 1, 3, 4, 6, 5, 7]
    assert play(moxi("insertion"), baited, 8)["insertion"].order == greedy
    assert play(revised(first=5), baited, 8)["insertion"].order == greedy
    assert set(play(revised(first=6), baited, 8)["insertion"].order[:3]) == {1, 4, 6}


def test_where_the_area_cannot_rise_enough_nobody_is_asked():
    """With the trio whole p is nearly 1; each of five before it stands on an eighth of the axis."""
    greedy = play(moxi("insertion"), baited, 8)["insertion"]
    top_C = along(greedy)[:6].sigmoid()
    may_rise = float((top_C[-1] - top_C).sum()) / 8
    for rise, asked in ((may_rise - 1e-6, True), (may_rise + 1e-6, False)):
        found = play(revised(first=6, rise=rise), baited, 8)["insertion"]
        assert (found.evaluations > greedy.evaluations) == asked
        assert (found.order != greedy.order) == asked


def test_an_early_end_keeps_its_players():
    game = Curved(11, 3, once=False)
    stop = {"stop": "budget", "budget": 6}
    plain = play(Subset(score=SCORES["insertion"], search=Greedy(), **stop), game, 11)["insertion"]
    found = play(revised(stop=stop, exchange=0.0), game, 11)["insertion"]
    assert set(found.order) == set(plain.order)
    assert along(found)[-1] == along(plain)[-1]


@pytest.mark.parametrize("stop", [{"stop": "flip"}, {"reach": 2.0}])
def test_whoever_stands_behind_what_was_to_be_reached_goes(stop):
    """The bait was picked before the trio, and is not needed once the trio comes first."""
    plain = play(Subset(score=SCORES["insertion"], search=Greedy(), **stop), baited, 8)["insertion"]
    assert plain.order == [0, 2, 1, 3, 4, 6]
    assert set(play(revised(stop=stop, first=7), baited, 8)["insertion"].order) == {1, 4, 6}


def test_a_search_that_ended_without_a_gain_keeps_its_players():
    """None of them need add to F where it stands now."""
    table = {(): 0.0, (0,): 1.0, (1,): 0.9, (2,): 0.9}
    table |= {(0, 1): 2.0, (0, 2): 1.5, (1, 2): 5.0, (0, 1, 2): 6.0}

    def value(coalitions_CN):
        named = [tuple(np.flatnonzero(row).tolist()) for row in coalitions_CN[:, :3].numpy()]
        return torch.tensor([table[one] for one in named]) - coalitions_CN[:, 3].double()

    found = play(revised(stop={"gain": True}), value, 4)["insertion"]
    assert found.order == [1, 2, 0], "the fourth takes from F: greedy search ends before it"


def test_areas_are_of_f_where_that_is_no_log_odds():
    score = Target(read="probability")
    greedy = play(Subset(score=score, search=Greedy()), baited, 8)["insertion"]
    height_C = along(greedy)[:6].sigmoid()
    below = float((height_C[-1] - height_C).sum()) / 8
    for rise, moved in ((below - 1e-6, True), (below + 1e-6, False)):
        search = Revised(search=Greedy(), first=6, rise=rise)
        found = play(Subset(score=score, search=search), baited, 8)["insertion"]
        assert (found.order != greedy.order) == moved


class Toy:
    """A set function that answers at once, and which sets it was asked of."""

    tie = 0.0

    def __init__(self, game, start):
        self.game, self.start, self.asked = game, start, []

    def __call__(self, picked_CN):
        self.asked.append(picked_CN)
        value_C = self.game(picked_CN).value_C
        return Scored(value_C, torch.zeros(len(value_C), dtype=torch.bool))
        yield


class Likely(Toy):
    """Whose values are log-odds."""

    def chance(self, scored):
        return float(scored.value_C[0].sigmoid())

    def __call__(self, picked_CN):
        scored = yield from super().__call__(picked_CN)
        return Scored(scored.value_C + self.start, scored.reached_C)


def mended(order, game, promised=0.0, start=0.0, kind=Toy):
    """An order after exchange, and the sets that it asked of."""
    value, tail = kind(game, start), list(order)
    path = drive(value(prefixes(order, len(order))), pytest.fail)
    path = [path[i : i + 1] for i in range(len(tail))]
    drive(exchanged(tail, path, len(tail), value, promised), pytest.fail)
    return tail, [set(np.flatnonzero(asked_CN[0]).tolist()) for asked_CN in value.asked[1:]]


def test_greedy_search_leaves_nothing_to_exchange():
    asked = 0
    for seed in range(4):
        game = Curved(9, seed, once=False)
        order = play(moxi("insertion"), game, 9)["insertion"].order
        after, sets = mended(order, game)
        assert after == order
        asked += len(sets)
    assert asked > 0, "some promise more than they keep"


def weighed(sets_CN):
    """Each player adds its number to F."""
    return SimpleNamespace(value_C=sets_CN.double() @ torch.arange(4.0).double())


@pytest.mark.parametrize(
    ("order", "promised", "after", "sets"),
    [
        ([0, 1, 2, 3], 0.0, [1, 2, 3, 0], [{1}, {1, 2}, {1, 2, 3}]),
        ([0, 1, 2, 3], 0.9, [1, 2, 3, 0], [{1}, {1, 2}, {1, 2, 3}]),
        ([0, 1, 2, 3], 1.1, [0, 1, 2, 3], []),
        ([1, 2, 0, 3], 0.0, [2, 3, 1, 0], [{1, 2, 3}, {2}, {2, 3}]),
        ([3, 2, 1, 0], 0.0, [3, 2, 1, 0], []),
    ],
)
def test_who_promises_most_is_asked_first(order, promised, after, sets):
    """In an additive game what is promised is kept; no more sets than pairs are asked of."""
    assert mended(order, weighed, promised) == (after, sets)


def test_of_the_first_two_nothing_is_known_without_a_value_before_them():
    assert mended([0, 1, 3, 2], weighed, start=None) == ([0, 3, 2, 1], [{0, 3}, {0, 2, 3}])


def test_where_f_is_log_odds_probability_is_promised():
    """Each player promises F one more than the one before it, the first two from p = .88 on."""
    assert mended([0, 1, 2, 3], weighed, 0.05, 2.0, Likely) == ([1, 0, 2, 3], [{1}])


@pytest.mark.parametrize(
    "wrong", [{"first": -1}, {"rise": -0.1}, {"exchange": -0.1}, {"again": Greedy()}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(UsageError, match=rf"search\.{next(iter(wrong))}"):
        Revised(**wrong)
