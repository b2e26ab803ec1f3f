"""Reduced precision ranks, fp32 decides."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import moxi

from pipeline.engine import Engine
from pipeline.game import drive, toy
from pipeline.game.arena import Arena
from pipeline.game.rough import Roughly, rough
from pipeline.masking.token_drop import TokenDrop
from pipeline.masking.zero import Zero
from pipeline.models.timm import TimmModel
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid

pytestmark = pytest.mark.usefixtures("one_thread")
N = 12


def game(seed: int, noise: float):
    """A random game whose rough answers are off by up to `noise`; counts both questions."""
    rng = np.random.default_rng(seed)
    once_N, pairs_NN = rng.normal(size=N), rng.normal(size=(N, N)) / 4
    counts = {"exact": 0, "rough": 0}

    def value(coalitions_CN):
        x_CN = coalitions_CN.double().numpy()
        return torch.from_numpy(x_CN @ once_N + ((x_CN @ pairs_NN) * x_CN).sum(1))

    played, exact = toy(value, N)
    _, off = toy(lambda x_CN: value(x_CN) + noise * _noise(x_CN), N)

    def answer(ask):
        is_rough = isinstance(ask, Roughly)
        counts["rough" if is_rough else "exact"] += ask.sets
        return off(ask.asked) if is_rough else exact(ask)

    return played, answer, counts


def _noise(coalitions_CN):
    """Between -1 and 1, the same whenever a coalition is asked for."""
    weight_N = torch.arange(1, N + 1, dtype=torch.float64) * 1.7
    return (coalitions_CN.double() @ weight_N).sin()


def found(played, answer, objective="insertion"):
    return drive(moxi(objective).explain(played), answer)[objective]


@pytest.mark.parametrize("objective", ["insertion", "deletion"])
@pytest.mark.parametrize("seed", range(5))
def test_orders_and_paths_are_those_of_fp32(seed, objective):
    played, answer, _ = game(seed, 0.05)
    exact = found(played, answer, objective)
    played, answer, counts = game(seed, 0.05)
    verified = found(replace(played, verified=True), answer, objective)
    assert verified.order == exact.order and exact.details is None
    torch.testing.assert_close(verified.path.value_C, exact.path.value_C, atol=1e-9, rtol=0)
    assert torch.equal(verified.singles_N, exact.singles_N)
    assert 0 < verified.details["delta"] <= 0.05 + 1e-9
    assert counts["rough"] == N * (N + 1) // 2 and verified.evaluations == sum(counts.values())
    again = counts["exact"] - N  # but for the first question, which is answered in both
    assert verified.details["recomputed"] == pytest.approx(again / (counts["rough"] - N), abs=1e-4)
    assert verified.details["recomputed"] < 0.5


def test_without_a_difference_only_the_best_is_asked_for_again():
    played, answer, counts = game(0, 0.0)
    assert found(replace(played, verified=True), answer).details["delta"] < 1e-9
    assert counts["exact"] == N + N - 1


def test_where_most_is_asked_for_again_the_rest_is_asked_once():
    played, answer, counts = game(0, 100.0)
    order = found(replace(played, verified=True), answer).order
    assert order == found(*game(0, 0.0)[:2]).order
    assert counts["rough"] == N + N - 1 and counts["exact"] == N * (N + 1) // 2


GAMES = [("test_efficientnet", Zero(), 160), ("test_vit", TokenDrop(), 160)]


@pytest.mark.parametrize(("name", "masking", "size"), GAMES)
def test_a_model_is_verified_by_itself(name, masking, size):
    x_CHW = torch.randn(3, size, size, generator=torch.Generator().manual_seed(0))

    def order(precision):
        source = TimmModel(name=name, weights="random", kwargs={"num_classes": 10})
        model = source.load(precision=precision)
        regions_HW = PatchGrid(grid=5).cut(size, size)

        def task():
            arena = Arena(model, View(x_CHW, model.preprocessing), regions_HW, "")
            yield from arena.meet(masking, 3)
            played = yield from arena.open(masking)
            return (yield from arena.play(moxi("insertion").explain(played), masking))

        ((explained, _),) = Engine(model).run([task()], in_flight=1)
        return explained["insertion"]

    exact, verified = order("fp32"), order("verified")
    assert verified.order == exact.order and verified.details["delta"] > 0
    torch.testing.assert_close(verified.path.value_C, exact.path.value_C, atol=1e-5, rtol=1e-5)


def test_the_copy_rounds_what_layers_return_and_leaves_the_model_alone(tiny_model):
    x_BCHW = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    other = rough(tiny_model)
    assert other is rough(tiny_model) and other.module is not tiny_model.module
    with torch.inference_mode():
        plain_BK, rough_BK = tiny_model.logits(x_BCHW), other.logits(x_BCHW)
    assert torch.equal(rough_BK, rough_BK.bfloat16().float())
    assert not torch.equal(plain_BK, plain_BK.bfloat16().float())
    torch.testing.assert_close(plain_BK, rough_BK, atol=0.05, rtol=0.05)
