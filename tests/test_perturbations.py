"""LIME, KernelSHAP, RISE and HSIC on games whose answer is known; players of their own."""

import numpy as np
import pytest
import torch
from conftest import moxi, table_game

from pipeline import UsageError
from pipeline.api import explain
from pipeline.api.presets import preset
from pipeline.game import Elsewhere
from pipeline.masking.blur import Blur
from pipeline.masking.zero import Zero
from pipeline.methods import play
from pipeline.methods.hsic import Hsic
from pipeline.methods.kernel_shap import KernelShap, weighted
from pipeline.methods.lime import Lime, slopes
from pipeline.methods.own_players import OwnPlayers
from pipeline.methods.rise_players import RisePlayers
from pipeline.methods.saliency import Saliency
from pipeline.methods.shapley import ShapleyExact, ShapleyPermutation
from pipeline.players.patch_grid import PatchGrid
from pipeline.players.saliency_groups import SaliencyGroups

WEIGHTS = torch.tensor([0.3, -1.0, 2.0, 0.7, 2.5, -0.2]).double()
ODDS = {"read": "log_odds"}
ALL = (Lime(**ODDS), KernelShap(**ODDS), RisePlayers(**ODDS), Hsic(**ODDS))


def additive(coalitions_CN):
    return coalitions_CN.double() @ WEIGHTS - 1.5


def scores(method, value, n, key=""):
    return play(method, value, n, key=key)["insertion"].scores_N


@pytest.mark.parametrize("method", ALL[:3])
def test_an_additive_game_is_ordered_by_weight(method):
    found = play(method, additive, 6)
    for objective in ("insertion", "deletion"):
        assert found[objective].order == torch.argsort(-WEIGHTS).tolist()


def test_slopes_of_a_linear_function_are_its_own():
    x_CN = torch.from_numpy(np.random.default_rng(0).random((40, 6)) < 0.5).double()
    found = slopes(x_CN, x_CN @ WEIGHTS + 7, torch.rand(40).double() + 0.1, 1e-9)
    torch.testing.assert_close(found, WEIGHTS, atol=1e-6, rtol=0)
    close = scores(Lime(forwards=2000, ridge=1e-6, **ODDS), additive, 6)
    torch.testing.assert_close(close, WEIGHTS, atol=1e-5, rtol=0)


def test_kernel_shap_of_all_coalitions_is_the_shapley_value():
    value = table_game(7)
    exact = scores(ShapleyExact(), value, 7)
    torch.testing.assert_close(scores(KernelShap(forwards=126, **ODDS), value, 7), exact)
    for n, forwards in ((7, 126), (7, 500), (8, 100), (9, 60), (2, 2), (3, 4)):
        coalitions_CN, weight_C = weighted(n, forwards, np.random.default_rng(0))
        assert len(coalitions_CN.unique(dim=0)) == len(coalitions_CN) <= forwards
        assert len(coalitions_CN) >= min(forwards, 2**n - 2) - 1
        mass = sum(1 / (s * (n - s)) for s in range(1, n))
        assert float(weight_C.sum()) == pytest.approx(mass)
        torch.testing.assert_close(
            weight_C @ coalitions_CN.double(), torch.full((n,), mass / 2).double()
        )


def test_shapley_values_agree_however_they_are_found():
    """Ten players: exact, sampled by orders, as a regression, and by shapiq."""
    from shapiq import Game as ShapiqGame
    from shapiq.game_theory.exact import ExactComputer

    value, n = table_game(10), 10
    exact = scores(ShapleyExact(), value, n)
    sampled = scores(ShapleyPermutation(forwards=40_000), value, n)
    regression = scores(KernelShap(forwards=900, **ODDS), value, n)
    spread = float(exact.std())
    assert float((sampled - exact).abs().max()) < 0.2 * spread
    assert float((regression - exact).abs().max()) < 0.25 * spread
    assert float(regression.sum()) == pytest.approx(float(exact.sum()))  # efficiency, exactly

    class Toy(ShapiqGame):
        def value_function(self, coalitions):
            return value(torch.from_numpy(coalitions)).numpy()

    empty = float(value(torch.zeros(1, n, dtype=torch.bool))[0])
    theirs = ExactComputer(Toy(n_players=n, normalize=True, normalization_value=empty))("SV", 1)
    np.testing.assert_allclose([theirs[(i,)] for i in range(n)], exact.numpy(), atol=1e-6)


def test_hsic_finds_the_only_player_that_matters():
    for sign in (1, -1):
        found = play(Hsic(forwards=200), lambda c, up=sign: up * 4.0 * c[:, 3].double() - 2, 8)
        scores_N = found["insertion"].scores_N
        assert found["insertion"].order[0] == 3
        assert float(scores_N[3]) > 20 * float(scores_N[[0, 1, 2, 4, 5, 6, 7]].abs().max())
    with pytest.raises(ValueError, match="whatever is visible"):
        play(Hsic(forwards=8), lambda c: torch.zeros(len(c)), 4)


@pytest.mark.parametrize("method", ALL, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_no_coalition_is_evaluated_twice(method, n):
    asked = []

    def value(coalitions_CN):
        asked.extend(map(tuple, coalitions_CN.tolist()))
        return table_game(n)(coalitions_CN)

    found = play(method, value, n)["insertion"]
    assert len(asked) == len(set(asked)) == found.evaluations + 2  # the ends are the game's
    assert found.evaluations <= min(method.most_forwards(n), 2**n - 2)


@pytest.mark.parametrize("kind", [Lime, KernelShap, RisePlayers, Hsic])
def test_chance_belongs_to_the_sample(kind):
    value = table_game(12)
    one = scores(kind(forwards=60), value, 12, key="a")
    assert torch.equal(one, scores(kind(forwards=60), value, 12, key="a"))
    assert not torch.equal(one, scores(kind(forwards=60), value, 12, key="b"))
    assert not torch.equal(one, scores(kind(forwards=60, seed=1), value, 12, key="a"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Lime(forwards=0), r"lime\.forwards=0"),
        (lambda: Lime(read="odds"), r"lime\.read='odds'"),
        (lambda: Lime(width=0.0), r"lime\.width=0"),
        (lambda: KernelShap(forwards=1), r"kernel_shap\.forwards=1"),
        (lambda: RisePlayers(keep=1.0), r"rise_players\.keep=1"),
        (lambda: OwnPlayers(method=Lime(), players=None, masking=Zero(), smooth=True), "smooth"),
    ],
)
def test_settings_that_are_none_are_named(wrong, said):
    with pytest.raises(UsageError, match=said):
        wrong()


@pytest.mark.usefixtures("one_thread")
def test_own_players_are_played_with_as_if_they_were_the_run_s(tiny_model):
    x_BCHW = torch.randn(2, 3, *tiny_model.input_hw)
    coarse = KernelShap(forwards=14)
    own = OwnPlayers(method=coarse, players=PatchGrid(grid=2), masking=Blur())
    mine = explain(tiny_model, x_BCHW, method=own, grid=4)
    theirs = explain(tiny_model, x_BCHW, method=coarse, grid=2, masking=Blur())
    fine_HW, coarse_HW = (PatchGrid(grid=g).cut(*tiny_model.input_hw) for g in (4, 2))
    inside = [int(coarse_HW[fine_HW == i][0]) for i in range(16)]
    for a, b in zip(mine.scores, theirs.scores, strict=True):
        np.testing.assert_allclose(a, b[inside], atol=1e-6)
    assert mine.attributions[0]["insertion"].evaluations == 14 == own.most_forwards(16)


@pytest.mark.usefixtures("one_thread")
def test_a_search_on_groups_of_a_heat_is_a_method_like_others(tiny_model):
    """On groups cut by the prior's heat; its own heat cuts groups in turn."""
    x_BCHW = torch.randn(1, 3, *tiny_model.input_hw)
    groups = SaliencyGroups(prior=Saliency(), cells=4, size=4)
    method = OwnPlayers(method=moxi("insertion"), players=groups, masking=Zero())
    found = explain(tiny_model, x_BCHW, method=method, grid=4)
    direct = explain(tiny_model, x_BCHW, method=moxi("insertion"), players=groups)
    assert found.attributions[0]["insertion"].evaluations == 1 + 4 * 5 // 2
    order = direct.order[0]
    first_HW = torch.from_numpy(direct.regions[0]) == order[0]
    fine_HW = PatchGrid(grid=4).cut(*tiny_model.input_hw)
    whole = [i for i in range(16) if bool(first_HW[fine_HW == i].all())]
    assert set(found.order[0][: len(whole)]) >= set(whole[:1])
    nested = SaliencyGroups(prior=method, cells=4, size=8)
    assert int(explain(tiny_model, x_BCHW, method="random_0", players=nested).regions[0].max()) == 1


@pytest.mark.parametrize("name", ["hsic_grid8", "lime_slico", "kernel_shap_slico"])
def test_presets_play_on_players_of_their_own(name):
    method = preset("methods", name)
    assert isinstance(method, OwnPlayers) and isinstance(method.masking, Zero)
    assert Elsewhere(method.method.explain).sets == 0
