"""The page of the documentation runs as it is written; shapiq's exact values are ours."""

import re

import numpy as np
import pytest
import shapiq
import torch
from conftest import ROOT

from pipeline import UsageError
from pipeline.api import explain, value_function
from pipeline.methods.saliency import Saliency
from pipeline.models.timm import TimmModel
from pipeline.players.saliency_groups import SaliencyGroups

(PAGE,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/shapiq.md").read_text(), re.DOTALL)
PAIRS = [(i, j) for j in range(4) for i in range(j)]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def image():
    return torch.randn(3, 160, 160, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore:Not all budget is required")
def test_the_page_runs_and_agrees(image):
    """In a game whose pairs matter: a tenth of what all players are worth, not float32's noise."""
    model = TimmModel(name="test_vit", weights="random", kwargs={"num_classes": 10}).load()
    there = {"image": image, "tiny": model}
    exec(PAGE.replace('"efficientnet_lite0"', "tiny"), there)
    game, pairs = there["game"], there["pairs"]
    empty, full = game.value(np.array([[False] * 4, [True] * 4]))
    alike = abs(full - empty) / 1000
    assert max(abs(pairs[two]) for two in PAIRS) > 50 * alike
    found = explain(model, image, method="shapley_exact", grid=2).attributions[0]
    theirs_N = np.array([there["shapley"][(i,)] for i in range(4)])
    np.testing.assert_allclose(theirs_N, found["insertion"].scores_N.numpy(), atol=alike)
    assert theirs_N.sum() == pytest.approx(full - empty, abs=alike)
    for index in (pairs, there["some"]):
        singles = sum(index[(i,)] for i in range(4))
        assert singles + sum(index[two] for two in PAIRS) == pytest.approx(full - empty, abs=alike)
    every = shapiq.KernelSHAPIQ(4, index="k-SII", max_order=2).approximate(2**4, game)
    for two in PAIRS:  # of all coalitions it is exact, not of the page's 14, drawn at random
        assert every[two] == pytest.approx(pairs[two], abs=alike)


def test_settings_of_a_game(tiny_model, image):
    value = value_function(tiny_model, image, 3, masking="blur", read="probability", grid=4)
    everyone = np.ones((2, 16), dtype=bool)
    with torch.inference_mode():
        p_K = tiny_model.logits(image[None]).softmax(1)[0]
    np.testing.assert_allclose(value(everyone), float(p_K[3]), rtol=1e-4)
    assert value.target == 3 and value.regions_HW.shape == (160, 160)
    assert value(everyone[:0]).shape == (0,)
    with pytest.raises(ValueError, match="the game has 16 players"):
        value(everyone[:, :4])
    groups = SaliencyGroups(prior=Saliency(), cells=4, size=4)
    assert value_function(tiny_model, image, players=groups).n_players == 4


def test_games_that_cannot_be(tiny_model, image):
    with pytest.raises(UsageError, match="class 10 is not one"):
        value_function(tiny_model, image, 10, grid=4)
    with pytest.raises(UsageError, match="a game is about one"):
        value_function(tiny_model, torch.stack([image, image]))
    with pytest.raises(UsageError, match=r"value_function\.read='odds'"):
        value_function(tiny_model, image, read="odds")  # type: ignore[arg-type]
