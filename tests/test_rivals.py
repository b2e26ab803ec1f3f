"""Two searches of one image: whose order stays, and what the second may take."""

from types import SimpleNamespace

import pytest
import torch
from conftest import moxi
from test_backward import SCORES, agrees_with_greedy, along, is_of_its_order
from test_revised import Likely, Toy, area, baited, weighed
from test_searches import Curved

from pipeline.game import drive
from pipeline.methods import play
from pipeline.methods.subset import Subset
from pipeline.searches import Found, Stop, prefixes
from pipeline.searches.backward import Backward
from pipeline.searches.beam import Beam
from pipeline.searches.bidirectional import Bidirectional
from pipeline.searches.both_ends import BothEnds
from pipeline.searches.greedy import Greedy
from pipeline.searches.joint import Joint
from pipeline.searches.phase_window import PhaseWindow
from pipeline.searches.revised import Revised
from pipeline.searches.rivals import Rivals
from pipeline.searches.screened import Screened
from pipeline.searches.stale_scope import StaleScope
from pipeline.searches.windowed import Windowed

# in a hurry: it loses to greedy search as often as it wins
HASTY = Backward(share=0.5, risk=0.05)


def rivals(objective="insertion", stop=None, **settings):
    search = Rivals(**({"search": HASTY} | settings))
    return Subset(score=SCORES[objective], search=search, **(stop or {}))


@pytest.mark.parametrize("objective", SCORES)
def test_in_an_additive_game_there_is_one_order(objective):
    agrees_with_greedy(rivals(objective), objective)


@pytest.mark.parametrize("objective", SCORES)
def test_the_order_with_more_area_stays(objective):
    whose = set()
    for seed in range(8):
        game = Curved(13, seed, once=False)
        first = play(Subset(score=SCORES[objective], search=HASTY), game, 13)[objective]
        greedy = play(moxi(objective), game, 13)[objective]
        method = rivals(objective)
        found = play(method, game, 13)[objective]
        is_of_its_order(found, game, objective)
        better = area(greedy, objective) > area(first, objective)
        assert found.order == (greedy if better else first).order
        assert found.details == {"rival": better}
        assert found.evaluations <= method.most_forwards(13)
        whose.add(better)
    assert whose == {True, False}


def test_a_rival_that_cannot_win_is_given_up():
    """Elimination meets the trio: p is .12, .5 and .95 of its first three. Greedy search takes the
    baits first, and has fallen behind for good once its third has brought nothing."""
    search = Backward(share=0.0)
    first = play(Subset(score=SCORES["insertion"], search=search), baited, 8)["insertion"]
    greedy = play(moxi("insertion"), baited, 8)["insertion"]
    assert set(first.order[:3]) == {1, 4, 6} and set(greedy.order[:2]) == {0, 2}
    may = float((1 - along(first).sigmoid()).sum())
    short_C = (1 - along(greedy).sigmoid()).cumsum(0)
    steps = 1 + int((short_C < may).sum())
    assert steps < 8
    sets = asked_of(rivals(search=search))
    head = asked_of(moxi("insertion", stop="budget", budget=steps))
    assert sets == asked_of(Subset(score=SCORES["insertion"], search=search)) | head
    longer = asked_of(moxi("insertion", stop="budget", budget=steps + 1))
    assert not longer <= sets
    found = play(rivals(search=search), baited, 8)["insertion"]
    assert found.order == first.order and found.details == {"rival": False}


RIVALS = [
    Beam(),
    Bidirectional(),
    BothEnds(front=Greedy(), steps=4, pace=0.2),
    Joint(),
    PhaseWindow(),
    Revised(search=Backward(share=0.8, risk=1.0), again=Backward(share=0.0), exchange=0.0),
    Rivals(search=Backward(share=0.0)),
    Screened(most=4),
    StaleScope(),
    Windowed(window=4),
]


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: type(rival).__name__)
def test_nobody_is_given_up_who_would_have_won(rival):
    """Nor does a search that may still change its mind, or goes several ways at once."""
    whose = set()
    for seed in range(40):
        game = Curved(9, seed, once=False)
        one, other, found = (
            play(Subset(score=SCORES["insertion"], search=search), game, 9)["insertion"]
            for search in (HASTY, rival, Rivals(search=HASTY, rival=rival))
        )
        assert area(found) == pytest.approx(max(area(one), area(other)), abs=1e-9)
        whose.add(found.details["rival"])
    assert whose == {True, False}


def asked_of(method) -> set[tuple[bool, ...]]:
    """Coalitions of the baited game that a method asks for."""
    seen = set()

    def game(coalitions_CN):
        seen.update(map(tuple, coalitions_CN.tolist()))
        return baited(coalitions_CN)

    play(method, game, 8)
    return seen


def of(n_players):
    return SimpleNamespace(n_players=n_players, share_N=torch.ones(n_players), verified=False)


def test_a_search_ends_once_its_curve_is_short_by_so_much():
    value = Likely(Curved(9, 3, once=False), 0.0)
    whole = drive(Greedy()(value, of(9), Stop()), pytest.fail)
    short_C = (1 - whole.path.value_C.sigmoid()).cumsum(0).tolist()
    for taken, short in enumerate(short_C[:-1], start=1):
        for more, length in ((-1e-9, taken), (1e-9, taken + 1)):
            found = drive(Greedy()(value, of(9), Stop(short=short + more)), pytest.fail)
            assert found.order == whole.order[:length]


def test_where_f_is_no_log_odds_the_rival_goes_to_its_end():
    """Along 0, 1, 2, 3 F is 0, 1, 3, 6: more than a probability would be along any order."""

    class Given:
        def __call__(self, value, game, stop):
            path = yield from value(prefixes([0, 1, 2, 3], 4))
            return Found(order=[0, 1, 2, 3], path=path)

    value = Toy(weighed, 0.0)
    found = drive(Rivals(search=Given())(value, of(4), Stop()), pytest.fail)
    assert found.order == [3, 2, 1, 0]
    found = drive(Rivals(rival=Given())(value, of(4), Stop()), pytest.fail)
    assert found.order == [3, 2, 1, 0]


def test_details_are_those_of_whose_order_it_is():
    """The rival says where its tail began; the better of the two may be looked at again."""
    game = Curved(11, 3, once=False)
    worst = Backward(share=0.8, risk=1.0)
    search = Rivals(search=worst, rival=Screened(most=11, risk=0.0))
    found = play(Subset(score=SCORES["insertion"], search=search), game, 11)["insertion"]
    assert found.details == {"tail": None, "rival": True}
    again = Revised(search=search, first=6)
    found = play(Subset(score=SCORES["insertion"], search=again), game, 11)["insertion"]
    assert found.details == {"tail": None, "rival": True}


@pytest.mark.parametrize("budget", [1, 3, 8])
def test_an_early_end_is_the_head_of_the_order(budget):
    stop = {"stop": "budget", "budget": budget}
    whose = set()
    for seed in range(8):
        game = Curved(13, seed, once=False)
        full = play(rivals(), game, 13)["insertion"]
        head = play(rivals(stop=stop), game, 13)["insertion"]
        assert head.order == full.order[:budget]
        torch.testing.assert_close(along(head), along(full)[:budget])
        assert head.details == full.details
        whose.add(full.details["rival"])
    assert whose == {True, False}
