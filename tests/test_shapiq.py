"""The page of the documentation runs as it is written; shapiq's exact values are ours."""

import re

import numpy as np
import pytest
import torch
from conftest import ROOT

from pipeline import UsageError
from pipeline.api import explain, value_function
from pipeline.methods.saliency import Saliency
from pipeline.players.saliency_groups import SaliencyGroups

(PAGE,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/shapiq.md").read_text(), re.DOTALL)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def image():
    return torch.randn(3, 160, 160, generator=torch.Generator().manual_seed(0))


def test_the_page_runs_and_agrees(tiny_model, image):
    there = {"image": image, "tiny": tiny_model}
    exec(PAGE.replace('"efficientnet_lite0"', "tiny"), there)
    found = explain(tiny_model, image, method="shapley_exact", grid=2).attributions[0]
    mine_N = found["insertion"].scores_N.numpy()
    theirs_N = np.array([there["shapley"][(i,)] for i in range(4)])
    np.testing.assert_allclose(theirs_N, mine_N, atol=1e-5)
    empty, full = there["game"].value(np.array([[False] * 4, [True] * 4]))
    assert theirs_N.sum() == pytest.approx(full - empty, abs=1e-5)
    for index in (there["pairs"], there["some"]):  # all coalitions: the approximation is exact
        assert sum(index[(i,)] for i in range(4)) + sum(
            index[(i, j)] for i in range(4) for j in range(i)
        ) == pytest.approx(full - empty, abs=1e-5)
    np.testing.assert_allclose(there["pairs"][(0, 1)], there["some"][(0, 1)], atol=1e-5)


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
