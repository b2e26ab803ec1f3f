import itertools

import numpy as np
import pytest
import torch
from conftest import logits, moxi, prepared
from PIL import Image
from processes import job

from pipeline import UsageError
from pipeline.data.images import decode
from pipeline.experiments.setsum import digits as setsum
from pipeline.experiments.setsum import figure
from pipeline.experiments.setsum.model import PREPROCESSING, SetSumModel, network, normalised
from pipeline.experiments.setsum.train import Training, _forward, checkpoint, soft_targets
from pipeline.masking.token_drop import TokenDrop
from pipeline.methods import play
from pipeline.methods.moxi_minus import MoxiMinus
from pipeline.methods.shapley import ShapleyExact
from pipeline.models import transform
from pipeline.models.weights import hash_weights
from pipeline.players.patch_grid import PatchGrid

EVERY_TUPLE = np.array(list(itertools.product(range(10), repeat=4)))


@pytest.fixture(scope="module")
def digits():
    return setsum.split(test_share=0.2, seed=0)


def test_label_is_the_sum_of_distinct_digits():
    labels = setsum.set_sum(EVERY_TUPLE)
    assert labels.tolist() == [sum(set(t)) for t in EVERY_TUPLE.tolist()]
    assert set(labels) == set(range(setsum.CLASSES))
    visible = np.array([[True, True, False, False]])
    assert setsum.set_sum(np.array([[2, 2, 1, 7]]), visible).tolist() == [2]


def test_train_and_test_share_no_digit_and_lose_none(digits):
    train, test = ({tile.tobytes() for tile in part.tiles_MHW} for part in digits)
    assert not train & test
    assert sum(map(len, digits)) == 1797


def test_composites_show_their_digits_where_players_are(digits):
    train, _ = digits
    images, shown = train.composites(20, np.random.default_rng(0))
    regions = PatchGrid(grid=2).cut(16, 16).numpy()
    known = {t.tobytes(): d for t, d in zip(train.tiles_MHW, train.digit_M, strict=True)}
    for image, four in zip(images, shown, strict=True):
        assert [known[image[regions == p].tobytes()] for p in range(4)] == four.tolist()
    again = train.composites(20, np.random.default_rng(0))
    assert np.array_equal(images, again[0])


def test_packed_composites_are_what_the_model_was_trained_on(digits):
    images, shown = digits[1].composites(3, np.random.default_rng(0))
    expected = normalised(torch.from_numpy(images))
    for index, entry in enumerate(setsum.Composites(images, shown).entries()):
        assert isinstance(entry.image, bytes)
        image = decode(entry.image)
        assert isinstance(image, Image.Image) and entry.label == sum(set(shown[index].tolist()))
        torch.testing.assert_close(transform(PREPROCESSING)(image), expected[index])


@pytest.mark.parametrize("seed", range(5))
def test_moxi_cancels_duplicates_and_single_scores_do_not(seed):
    """The toy game, v(S) = sum of the distinct integers in S, {2, 2, 1} -> 3."""
    values = np.random.default_rng(seed).permutation([5, 5, 5, 2, 2, 1])

    def value(coalitions_CN):
        visible = coalitions_CN.numpy()
        return torch.from_numpy(setsum.set_sum(np.tile(values, (len(visible), 1)), visible))

    def shown(method):
        return values[play(method, value, 6)["insertion"].order].tolist()

    assert shown(moxi("insertion"))[:3] == [5, 2, 1]
    assert shown(MoxiMinus()) == [5, 5, 5, 2, 2, 1]
    # by symmetry a digit's Shapley value is shared among its copies: 5/3, 2/2, 1/1
    assert shown(ShapleyExact())[:3] == [5, 5, 5]


def test_bounds_are_those_of_the_task():
    found = figure.bounds(EVERY_TUPLE)
    expected = {
        "oracle": [0.0001, 0.0136, 0.1936, 0.6976, 1],
        "largest digits first": [0.0001, 0.0136, 0.1144, 0.4816, 1],
        "any order": [0.0001, 0.0073, 0.0757, 0.3439, 1],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=6e-5)


def test_soft_targets_make_log_odds_fall_evenly_with_distance():
    targets = soft_targets(0.5).double()
    torch.testing.assert_close(targets.sum(1), torch.ones(31).double(), atol=1e-6, rtol=0)
    falls = targets.log()[20, :20].diff()  # up to the sum, each step nearer counts the same
    torch.testing.assert_close(falls, torch.full_like(falls, 2.0), atol=1e-4, rtol=0)
    assert torch.equal(soft_targets(0), torch.eye(31))


def test_training_lowers_the_loss(digits):
    torch.manual_seed(0)
    losses = Training(steps=30, batch=32).fit(network(width=32, depth=1), digits[0])
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


@pytest.mark.parametrize("blanking", [False, True])
def test_training_repeats_itself_and_is_loaded_as_it_was(digits, tmp_path, blanking):
    training = Training(steps=5, batch=16, blanking=blanking)
    made = {"width": 32, "depth": 1, "test_share": 0.2}
    first, second = (
        checkpoint(tmp_path / name / "model.safetensors", training, digits[0], **made)
        for name in ("a", "b")
    )
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(UsageError, match="was trained with"):
        checkpoint(tmp_path / "a" / "model.safetensors", Training(), digits[0], **made)
    loaded = SetSumModel(
        weights=str(tmp_path / "a" / "model.safetensors"), width=32, depth=1
    ).load()
    assert loaded.weights_hash == hash_weights(first)

    images, _ = digits[1].composites(2, np.random.default_rng(0))
    x_BCHW = normalised(torch.from_numpy(images))
    visible = np.array([[True, False, True, False], [False, False, True, True]])
    with torch.inference_mode():
        trained_on = _forward(first, x_BCHW, visible)
        for x_CHW, shown, expected in zip(x_BCHW, visible, trained_on, strict=True):
            ready = prepared(loaded, TokenDrop(), x_CHW, PatchGrid(grid=2).cut(16, 16))
            found = logits(loaded, TokenDrop(), ready, torch.from_numpy(shown)[None])[0]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_tile_is_encoded_alone():
    vit = network(width=32, depth=1)
    x_BCHW = torch.rand(1, 3, 16, 16)
    changed = x_BCHW.clone()
    changed[..., :8, 8:] = 0
    with torch.inference_mode():
        same = (vit.patch_embed(x_BCHW) == vit.patch_embed(changed)).all(2)[0]
    assert same.tolist() == [True, False, True, True]


@pytest.mark.slow
def test_job_makes_a_figure_once(tmp_path):
    few = ["training.steps=60", "composites.test=40", "model.width=32", "model.depth=1"]
    done = job("setsum", f"out={tmp_path}", *few)
    assert "40 composites" in done.stdout
    assert (tmp_path / "setsum.png").exists()
    assert "nothing to compute" in job("setsum", f"out={tmp_path}", *few).stdout
