import pytest
import torch
from conftest import moxi, table_game

from pipeline import UsageError
from pipeline.game import Outputs
from pipeline.judges.curves import coalitions
from pipeline.methods import play
from pipeline.methods.interaction import interactions
from pipeline.methods.moxi_minus import MoxiMinus
from pipeline.scores.target import TIES
from pipeline.searches import first_best

TIE = TIES["log_odds"]

WEIGHTS = torch.tensor([0.3, -1.0, 2.0, 0.7, 2.5, -0.2]).double()


def additive(coalitions_CN):
    return coalitions_CN.double() @ WEIGHTS


def test_additive_game_gives_sorted_weights():
    expected = torch.argsort(-WEIGHTS).tolist()
    for method in (moxi("insertion"), moxi("deletion"), MoxiMinus()):
        for found in play(method, additive, 6).values():
            assert found.order == expected


def test_additive_game_has_no_interactions():
    ends = additive_ends()
    for objective in ("insertion", "deletion"):
        found = play(moxi(objective), additive, 6)[objective]
        joint = interactions(found.order, objective, found.path.value_C, found.singles_N, ends)
        torch.testing.assert_close(joint, torch.zeros(6).double(), atol=1e-12, rtol=0)


def additive_ends() -> Outputs:
    value_C1 = additive(torch.tensor([[False] * 6, [True] * 6]))[:, None]
    return Outputs.of(
        classes=(0,), logits_CT=value_C1, log_odds_CT=value_C1, prediction_C=torch.zeros(2).long()
    )


def test_each_pick_is_the_best_of_those_that_remain():
    for seed in range(20):
        value = table_game(6, seed)
        for objective, sign in (("insertion", 1), ("deletion", -1)):
            found = play(moxi(objective), value, 6)[objective]
            for step, pick in enumerate(found.order):
                scores = {
                    b: sign * float(value(coalitions([*found.order[:step], b], 6, objective)[-1:]))
                    for b in set(range(6)) - set(found.order[:step])
                }
                assert max(scores, key=lambda b: scores[b]) == pick


def test_corrected_decomposition_of_deletion():
    """argmin v(N - S - b) = argmax [n phi_d(b) - (n - |S|) I_d(S, b)]: minus, not eq. 13's plus."""
    n = 6
    for seed in range(20):
        value = table_game(n, seed)
        found = play(moxi("deletion"), value, n)["deletion"]
        everyone = torch.ones(n, dtype=torch.bool)
        full = value(everyone[None])[0]

        def v_without(players, value=value):
            visible = torch.ones(1, n, dtype=torch.bool)
            visible[0, players] = False
            return float(value(visible)[0])

        for step in range(1, n - 1):
            chosen, rest = found.order[:step], found.order[step:]
            scores = {}
            for b in rest:
                phi = (full - v_without([b])) / n
                joint = full - v_without(chosen) - v_without([b]) + v_without([*chosen, b])
                scores[b] = n * phi - joint
            assert max(scores, key=scores.__getitem__) == found.order[step]


def test_forwards_are_counted_exactly_and_never_repeated():
    asked = []

    def value(coalitions_CN):
        asked.extend(tuple(row.tolist()) for row in coalitions_CN)
        return table_game(7)(coalitions_CN)

    for objective in ("insertion", "deletion"):
        asked.clear()
        found = play(moxi(objective), value, 7)[objective]
        assert found.evaluations == 7 * 8 // 2 == len(asked) - 2  # the two ends are the game's
        assert found.evaluations == moxi(objective).most_forwards(7)


def test_path_holds_the_values_along_the_order():
    value = table_game(6)
    for objective in ("insertion", "deletion"):
        found = play(moxi(objective), value, 6)[objective]
        expected = value(coalitions(found.order, 6, objective))
        torch.testing.assert_close(found.path.value_C, expected)


def test_lowest_index_wins_ties():
    assert play(moxi("insertion"), lambda c: c.sum(1).double(), 5)["insertion"].order == list(
        range(5)
    )
    assert first_best(torch.tensor([0.0, 1.0 - TIE / 2, 1.0]), TIE) == 1
    assert first_best(torch.tensor([0.0, 1.0 - 2 * TIE, 1.0]), TIE) == 2


def test_a_search_may_stop_early():
    value = table_game(8, 3)
    for objective in ("insertion", "deletion"):
        full = play(moxi(objective), value, 8)[objective]
        some = moxi(objective, stop="budget", budget=3)
        part = play(some, value, 8)[objective]
        assert part.order == full.order[:3]
        assert part.evaluations == 8 + 7 + 6 == some.most_forwards(8)
        flip = play(moxi(objective, stop="flip"), value, 8)[objective]
        assert flip.order == full.order[: len(flip.order)]
        reached = [bool(t) == (objective == "insertion") for t in full.path.top1_C]
        assert len(flip.order) == (reached.index(True) + 1 if any(reached) else 8)
    with pytest.raises(UsageError, match="budget"):
        moxi("insertion", stop="budget")


def test_interaction_of_insertion_is_the_self_context_one():
    value = table_game(5)
    found = play(moxi("insertion"), value, 5)["insertion"]
    ends_value = value(torch.tensor([[False] * 5, [True] * 5]))[:, None]
    ends = Outputs.of(
        classes=(0,),
        logits_CT=ends_value,
        log_odds_CT=ends_value,
        prediction_C=torch.zeros(2).long(),
    )
    joint = interactions(found.order, "insertion", found.path.value_C, found.singles_N, ends)
    for k in range(1, 5):
        before = coalitions(found.order[:k], 5, "insertion")[-1:]
        after = coalitions(found.order[: k + 1], 5, "insertion")[-1:]
        alone = coalitions([found.order[k]], 5, "insertion")
        expected = value(after) - value(before) - value(alone) + ends_value[0]
        torch.testing.assert_close(joint[k], expected[0])
