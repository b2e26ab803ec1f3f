"""Screened search: exact where its probe is, within its price, and what frozen tokens leave out."""

import numpy as np
import pytest
import torch
from conftest import moxi, sharpened

from pipeline import UsageError
from pipeline.api import explain
from pipeline.engine import Engine
from pipeline.game import Coalitions
from pipeline.game.arena import Arena
from pipeline.masking.token_drop import TokenDrop
from pipeline.masking.zero import Zero
from pipeline.methods import play
from pipeline.methods.subset import Subset
from pipeline.models.timm import TimmModel
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid
from pipeline.scores.target import Target
from pipeline.searches.doubt import TOGETHER, Doubt
from pipeline.searches.probes.frozen_tokens import Probed
from pipeline.searches.probes.kv_frozen import KvFrozen
from pipeline.searches.probes.stale import Stale
from pipeline.searches.screened import Screened, improvement

pytestmark = pytest.mark.usefixtures("one_thread")
WEIGHTS = torch.tensor([0.3, -1.0, 2.0, 0.7, 2.5, -0.2, 0.1, 1.1]).double()
SCORES = {"insertion": Target(), "deletion": Target(visible="others", sign=-1)}


def additive(coalitions_CN):
    return coalitions_CN.double() @ WEIGHTS - 1.5


def screened(objective="insertion", **settings):
    settings = {"probe": Stale(), "saturated": None, "verify": 1} | settings
    return Subset(score=SCORES[objective], search=Screened(**settings))


@pytest.mark.parametrize("objective", SCORES)
def test_gains_of_an_additive_game_are_never_stale(objective):
    """What players add is known after the first step, and that it does not change soon after."""
    method = screened(objective, risk=0.01)
    found = play(method, additive, 8)[objective]
    assert found.order == torch.argsort(WEIGHTS, descending=True).tolist()
    assert found.order == play(moxi(objective), additive, 8)[objective].order
    assert found.evaluations < method.most_forwards(8) == 36
    last = additive(torch.ones(1, 8))[0] if objective == "insertion" else -1.5
    assert float(found.path.value_C[-1]) == pytest.approx(float(last))


def any_game(seed=0):
    game = torch.randn(2**8, generator=torch.Generator().manual_seed(seed)).double()
    powers = 2 ** torch.arange(8)
    return lambda coalitions_CN: game[(coalitions_CN.long() * powers).sum(1)]


def test_verifying_everybody_is_greedy_search():
    value = any_game()
    exact = play(moxi("insertion"), value, 8)["insertion"]
    for settings in (
        {"probe": Stale(refresh=1)},
        {"probe": Stale(first=8)},
        {"risk": 0.0, "most": 8},
        {"verify": 8, "most": 8},
    ):
        found = play(screened(**settings), value, 8)["insertion"]
        assert (found.order, found.evaluations) == (exact.order, 36)


def test_a_smaller_risk_is_a_larger_price():
    spent, lost = [], []
    for risk in (1e3, 0.03, 0.0):
        method = screened(risk=risk, most=8, verify=1)
        games = range(20)
        found = [play(method, any_game(seed), 8)["insertion"] for seed in games]
        exact = [play(moxi("insertion"), any_game(seed), 8)["insertion"] for seed in games]
        spent.append(sum(one.evaluations for one in found))
        areas = [[float(o.path.probability_C.mean()) for o in many] for many in (exact, found)]
        lost.append(sum(areas[0]) - sum(areas[1]))
    assert spent == sorted(spent)
    assert spent[0] == 20 * (8 + 7)
    assert lost[0] > lost[1] > lost[2] == 0
    capped = screened(risk=0.0, most=3, verify=2)
    assert play(capped, any_game(), 8)["insertion"].evaluations == 8 + 5 * 3 + 2 + 1
    assert capped.most_forwards(8) == 8 + 5 * 3 + 2 + 1
    with pytest.raises(UsageError, match="risk=-1"):
        Screened(risk=-1)


@pytest.mark.parametrize("saturated", [None, 0.6])
@pytest.mark.parametrize("probe", [Stale(), Stale(first=2, refresh=3)])
def test_no_order_takes_more_sets_than_it_may(probe, saturated):
    """From one for each player, which makes the probe's order, to what greedy search takes."""
    spent = []
    for sets in (1, 8, 12, 20, 36):
        method = screened(probe=probe, risk=0.0, most=8, saturated=saturated, sets=sets)
        assert method.most_forwards(8) == max(8, min(sets, 36 if saturated is None else 44))
        found = [play(method, any_game(seed), 8)["insertion"] for seed in range(20)]
        assert all(sorted(one.order) == list(range(8)) for one in found)
        assert max(one.evaluations for one in found) <= max(sets, 8)
        spent.append(sum(one.evaluations for one in found))
    assert spent == sorted(spent) and spent[0] == spent[1] == 20 * 8
    if saturated is None:
        exact = [play(moxi("insertion"), any_game(seed), 8)["insertion"] for seed in range(20)]
        assert [one.order for one in found] == [one.order for one in exact]
    with pytest.raises(UsageError, match="sets=0"):
        Screened(sets=0)


def test_improvement_is_what_is_hoped_for():
    mean_C, spread_C = np.array([0.0, 1.0, -1.0, 2.0]), np.array([1.0, 2.0, 0.5, 0.0])
    drawn = mean_C + spread_C * np.random.default_rng(0).standard_normal((400_000, 4))
    expected = np.maximum(drawn - 0.5, 0).mean(0)
    np.testing.assert_allclose(improvement(mean_C, spread_C, 0.5), expected, atol=0.005)


def test_doubt_is_what_a_gaussian_walk_leaves():
    """As conditioning all errors at once on all that was seen."""
    rng, steps, n = np.random.default_rng(0), 4, 5
    doubt = Doubt(n)
    doubt.move(np.array([0.0, 2.0]))  # a variance of 1
    shape = np.full((n, n), TOGETHER) + (1 - TOGETHER) * np.eye(n)
    whole = np.kron(np.minimum.outer(np.arange(steps), np.arange(steps)) + 1, shape)
    seen, wrong = [], []
    for step in range(steps):
        if step:
            doubt._off.clear()  # the rate stays
            doubt.move(np.zeros(1))
        players = rng.choice(n, 2, replace=False)
        off = rng.standard_normal(2)
        doubt.see(players, off)
        seen += (step * n + players).tolist()
        wrong += off.tolist()
    now = np.arange((steps - 1) * n, steps * n)
    weight = np.linalg.solve(whole[np.ix_(seen, seen)], whole[np.ix_(seen, now)])
    np.testing.assert_allclose(doubt.mean_N, np.array(wrong) @ weight, atol=1e-6)
    left = np.diag(whole[np.ix_(now, now)] - whole[np.ix_(now, seen)] @ weight)
    np.testing.assert_allclose(doubt.spread(np.arange(n)) ** 2, left, atol=1e-6)


def test_nobody_else_is_verified_where_nothing_is_left_to_win():
    """p is above .99 from the third player on: two steps more are looked at, then none."""
    large = 6 * WEIGHTS.clamp_min(0.1) - 0.01 * torch.arange(8)

    def value(coalitions_CN):
        return coalitions_CN.double() @ large - 12

    method = screened(probe=Stale(refresh=1), saturated=0.99, patience=3)
    found = play(method, value, 8)["insertion"]
    steps = int((found.path.probability_C >= 0.99).int().argmax()) + 3
    assert found.order == play(moxi("insertion"), value, 8)["insertion"].order
    assert found.evaluations == sum(8 - k for k in range(steps)) + (8 - steps) < 36
    assert len(found.path) == 8
    assert found.details == {"tail": steps}
    assert found.evaluations <= method.most_forwards(8)

    def falls(coalitions_CN):  # the third of the rest is the one that must come last
        return value(coalitions_CN) - 20 * (coalitions_CN[:, 5] & ~coalitions_CN.all(1))

    method = screened(probe=Stale(first=3), saturated=0.99, patience=3, risk=0.0, most=8)
    found = play(method, falls, 8)["insertion"]
    assert found.order[-1] == 5
    assert found.evaluations <= method.most_forwards(8)
    with pytest.raises(UsageError, match=r"saturated=0\.3"):
        Screened(probe=Stale(), saturated=0.3)


def small_vit():
    spec = {"name": "test_vit", "weights": "random", "kwargs": {"num_classes": 5}}
    return sharpened(TimmModel(**spec).load())


@pytest.fixture(scope="module")
def seen():
    """Answers of a small ViT, exact ones and the probe's, to one image's coalitions."""
    model = small_vit()
    image_CHW = torch.randn(3, *model.input_hw, generator=torch.Generator().manual_seed(0))
    regions_HW = PatchGrid(grid=5).cut(*model.input_hw)

    def both(coalitions_CN, masking=TokenDrop(), share=1.0):  # noqa: B008
        def asks():
            asked = Coalitions(coalitions_CN)
            return (yield asked), (yield Probed(asked, share))

        def task():
            arena = Arena(model, View(image_CHW, model.preprocessing), regions_HW, "")
            yield from arena.meet(masking, 2)
            yield from arena.open(masking)
            return (yield from arena.play(asks(), masking))[0]

        engine = Engine(model)
        (found,) = engine.run([task()], in_flight=1)
        return *(outputs.value_C.numpy() for outputs in found), engine.counters

    return both


def test_frozen_tokens_are_exact_where_nobody_is_frozen(seen):
    eye = torch.eye(25, dtype=torch.bool)
    exact, probed, counters = seen(eye)
    np.testing.assert_allclose(probed, exact, atol=1e-4)
    assert counters.forwards == 2 + 25 + 1
    one = torch.arange(25)[None] < 9
    exact, probed, _ = seen(one)
    np.testing.assert_allclose(probed, exact, atol=1e-4)


def test_frozen_tokens_know_about_who_matters(seen):
    """The better, the fewer blocks they are frozen in; with none they are whole forwards."""
    eye = torch.eye(25, dtype=torch.bool)
    some = torch.arange(25) < 6
    for toggled in ((some | eye)[6:], (~some & ~eye)[6:]):
        off, tokens = [], []
        for share in (1.0, 0.5, 0.0):
            exact, probed, counters = seen(toggled, share=share)
            off.append(1 - np.corrcoef(exact, probed)[0, 1])
            tokens.append(counters.tokens)
        np.testing.assert_allclose(probed, exact, atol=1e-4)
        assert 0.1 > off[0] > off[1] > off[2]
        assert tokens == sorted(tokens)
        assert counters.forwards == 2 + 19 + 1
    with pytest.raises(UsageError, match="need masking=token_drop"):
        seen(eye, Zero())


def test_a_screened_search_on_a_vision_transformer(seen):
    """As any method, through the engine, at a fraction of the price."""
    model = small_vit()
    x_BCHW = torch.randn(2, 3, *model.input_hw, generator=torch.Generator().manual_seed(1))
    for probe in (KvFrozen(), KvFrozen(first=3, refresh=4, share=0.5)):
        method = screened(probe=probe, risk=0.03)
        found = explain(model, x_BCHW, method=method, grid=5, masking="token_drop")
        assert all(sorted(order) == list(range(25)) for order in found.order)
        spent = [one["insertion"].evaluations for one in found.attributions]
        assert max(spent) <= method.most_forwards(25) < 325 * 0.7
