"""Neighbours of an order change places: what is gained, what is not, and for which price."""

import pytest
import torch
from conftest import moxi
from test_backward import SCORES, along, backward
from test_searches import Curved

from pipeline.methods import play
from pipeline.searches import prefixes


@pytest.mark.parametrize("objective", SCORES)
def test_no_set_is_worth_less_by_it_and_some_are_worth_more(objective):
    sign, gained = (1 if objective == "insertion" else -1), 0.0
    for seed in range(6):
        game = Curved(13, seed, once=False)
        plain, mended = (
            play(backward(objective, share=0.8, risk=1.0, exchange=most), game, 13)[objective]
            for most in (0, 13)
        )
        sets_CN = prefixes(mended.order, 13)
        value_C = game(sets_CN if objective == "insertion" else ~sets_CN).value_C
        torch.testing.assert_close(along(mended), value_C)
        gain_C = sign * (along(mended) - along(plain))
        assert gain_C.min() >= 0
        assert mended.evaluations <= plain.evaluations + 12
        gained += float(gain_C.sum())
    assert gained > 0


def test_greedy_search_leaves_nothing_to_exchange():
    """With one player a round an order from behind is greedy search's where all add up."""
    weights = torch.tensor([0.3, 2.0, 0.7, 2.5, 0.7, 0.1]).double()
    found = play(backward(exchange=6), lambda sets_CN: sets_CN.double() @ weights, 6)["insertion"]
    greedy = play(moxi("insertion"), lambda sets_CN: sets_CN.double() @ weights, 6)["insertion"]
    assert found.order == greedy.order == [3, 1, 2, 4, 0, 5]
