"""Neighbours of an order change places: what is gained, what is not, and for which price."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import moxi
from test_backward import SCORES, along, backward, is_of_its_order
from test_searches import Curved

from pipeline.game import drive
from pipeline.methods import play
from pipeline.scores import Scored
from pipeline.searches import prefixes
from pipeline.searches.exchange import exchanged


@pytest.mark.parametrize("objective", SCORES)
def test_no_set_is_worth_less_by_it_and_some_are_worth_more(objective):
    sign, gained = (1 if objective == "insertion" else -1), 0.0
    for seed in range(6):
        game = Curved(13, seed, once=False)
        plain, mended = (
            play(backward(objective, share=0.8, risk=1.0, exchange=below), game, 13)[objective]
            for below in (None, math.inf)
        )
        is_of_its_order(mended, game, objective)
        gain_C = sign * (along(mended) - along(plain))
        assert gain_C.min() >= 0
        assert mended.evaluations <= plain.evaluations + 12
        gained += float(gain_C.sum())
    assert gained > 0


class Toy:
    """A set function that answers at once, and which sets it was asked of."""

    tie, start = 0.0, None

    def __init__(self, game):
        self.game, self.asked = game, []

    def __call__(self, sets_CN):
        self.asked.append(sets_CN)
        value_C = self.game(sets_CN).value_C
        return Scored(value_C, torch.zeros(len(value_C), dtype=torch.bool))
        yield


def mended(order, game, below):
    """An order after exchange, and how many sets that asked of."""
    value, tail = Toy(game), list(order)
    path = drive(value(prefixes(order, len(order))), pytest.fail)
    nobody_N, path = np.zeros(len(tail), dtype=bool), [path[i : i + 1] for i in range(len(tail))]
    drive(exchanged(nobody_N, tail, path, value, below), pytest.fail)
    return tail, len(value.asked) - 1


def test_greedy_search_leaves_nothing_to_exchange():
    for seed in range(4):
        game = Curved(9, seed, once=False)
        order = play(moxi("insertion"), game, 9)["insertion"].order
        assert mended(order, game, math.inf) == (order, 8)


def test_only_where_the_score_is_less():
    """Who is asked of, and who came too early is handed on until it stands where it belongs."""

    def game(sets_CN):
        return SimpleNamespace(value_C=sets_CN.double() @ torch.arange(4.0).double())

    assert mended([0, 1, 2, 3], game, math.inf) == ([1, 2, 3, 0], 3)
    assert mended([0, 1, 2, 3], game, 2.5) == ([1, 2, 0, 3], 2)
    assert mended([0, 1, 2, 3], game, 0.0) == ([0, 1, 2, 3], 0)
