"""Evidential heads: formulas against cases worked by hand, and a head on digits."""

import numpy as np
import pytest
import torch
from conftest import encode, write_tar
from PIL import Image
from safetensors import safe_open
from torch.distributions import Dirichlet, kl_divergence
from torch.testing import assert_close

from jobs.evidential import main
from pipeline import UsageError
from pipeline.experiments.evidential import (
    Head,
    Training,
    alpha,
    divergence,
    split,
    squared_error,
    uncertainty,
)
from pipeline.models.timm import TimmModel

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"input_size": [3, 32, 32], "mean": [0.3] * 3, "std": [0.4] * 3}


def test_the_loss_is_that_of_a_case_worked_by_hand():
    """alpha = (2, 1, 1): S = 4, p = (2, 1, 1) / 4; errors 1/4 + 2/16, variance 10/16/5."""
    alpha_BK, target_BK = torch.tensor([[2.0, 1.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    assert_close(squared_error(alpha_BK, target_BK), torch.tensor([0.375 + 0.125]))
    assert_close(uncertainty(alpha_BK), torch.tensor([0.75]))
    rest_BK = torch.tensor([[0.0, 1.0, 0.0]])  # of the true class, 2 would be removed evidence
    assert_close(squared_error(alpha_BK, rest_BK), torch.tensor([0.25 + 0.5625 + 0.0625 + 0.125]))


def test_squared_error_is_the_expectation_over_the_distribution():
    alpha_K, target_K = torch.tensor([3.0, 1.5, 2.0]), torch.tensor([0.0, 1.0, 0.0])
    torch.manual_seed(0)
    drawn_nK = Dirichlet(alpha_K).sample((200_000,))
    expected = ((target_K - drawn_nK) ** 2).sum(1).mean()
    found = squared_error(alpha_K[None], target_K[None])[0]
    assert_close(found, expected, atol=3e-3, rtol=0)


def test_divergence_is_that_from_the_uniform_distribution():
    target_BK = torch.eye(4)[:3]
    assert_close(divergence(torch.ones(3, 4), target_BK), torch.zeros(3), atol=1e-6, rtol=0)
    alpha_BK = torch.rand(3, 4) * 5 + 1
    without_BK = torch.where(target_BK == 1, 1.0, alpha_BK)
    expected = kl_divergence(Dirichlet(without_BK), Dirichlet(torch.ones(3, 4)))
    assert_close(divergence(alpha_BK, target_BK), expected, atol=1e-5, rtol=1e-5)
    right = torch.tensor([[50.0, 1.0, 1.0, 1.0]])  # evidence of the true class alone costs nothing
    assert_close(divergence(right, torch.eye(4)[:1]), torch.zeros(1), atol=1e-6, rtol=0)


def test_evidence_is_bounded():
    alpha_BK = alpha(torch.tensor([[-1e6, 0.0, 3.0, 1e6]]), scale=2.0)
    expected = torch.tensor([[-10.0, 0.0, 6.0, 10.0]]).exp() + 1
    assert_close(alpha_BK, expected)


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """A thousand digits as grey images (M, 3, 32, 32), 0 to 1, and what they show."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x_MCHW = torch.from_numpy(found.images[:1000] / 16).float()[:, None].repeat(1, 3, 1, 1)
    x_MCHW = torch.nn.functional.interpolate(x_MCHW, size=(32, 32))
    return x_MCHW, torch.from_numpy(found.target[:1000])


@pytest.fixture(scope="module")
def backbone():
    return TimmModel(name="test_efficientnet", weights="random", preprocessing=SMALL).load()


def test_a_head_knows_digits_and_when_it_does_not(digits, backbone):
    """Random features suffice; the loss is compared once its KL term has its whole weight."""

    def features(x_BCHW):
        with torch.no_grad():
            return backbone.encode((x_BCHW - 0.3) / 0.4)

    x_MCHW, labels_M = digits
    features_MD = torch.cat([features(part) for part in x_MCHW.split(250)])
    train, test = split(1000, held_out=0.2, seed=0)
    training = Training(epochs=30, annealing=5)
    head, losses = training.fit(features_MD[train], labels_M[train], 10)
    assert losses[-1] < 0.9 * losses[5]
    alpha_BK = head.alpha(features_MD[test])
    right_B, doubt_B = alpha_BK.argmax(1) == labels_M[test], uncertainty(alpha_BK)
    assert right_B.double().mean() > 0.75
    assert doubt_B[~right_B].mean() > doubt_B[right_B].mean() + 0.1
    noise = torch.rand(50, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for other in (noise, torch.zeros(1, 3, 32, 32)):
        assert uncertainty(head.alpha(features(other))).mean() > doubt_B[right_B].mean()
    again, _ = training.fit(features_MD[train], labels_M[train], 10)
    assert torch.equal(again.weight_KD, head.weight_KD)


def test_a_head_takes_features_as_they_are():
    """Standardising is undone: shifted and stretched features, one constant, the same answers."""
    features_MD, labels_M = torch.randn(60, 3), torch.arange(60) % 2
    features_MD[:, 0] += 2 * labels_M
    moved_MD = torch.cat([features_MD * 7 - 3, torch.full((60, 1), 5.0)], 1)
    training = Training(epochs=5, batch=16)
    one, _ = training.fit(features_MD, labels_M, 2)
    other, _ = training.fit(moved_MD, labels_M, 2)
    assert_close(one.alpha(features_MD), other.alpha(moved_MD), atol=1e-3, rtol=1e-3)
    assert other.weight_KD[:, 3].tolist() == [0.0, 0.0]


def test_the_job_writes_what_a_reader_needs(digits, backbone, tmp_path, capsys):
    members, (x_MCHW, labels_M) = {}, digits
    for index in range(40):
        pixels = (x_MCHW[index] * 255).byte().permute(1, 2, 0).numpy()
        members[f"{index}.png"] = encode(Image.fromarray(np.ascontiguousarray(pixels)), "PNG")
        members[f"{index}.cls"] = str(int(labels_M[index])).encode()
    shard = write_tar(tmp_path / "x.tar", members | {"bad.png": b"", "bad.cls": b"3"})
    out = tmp_path / "head.safetensors"
    given = ["dataset.name=x", f"dataset.shards={shard}", f"out={out}", "model=timm"]
    given += ["model.name=test_efficientnet", "model.weights=random", "training.epochs=5"]
    given += [
        f"+model.preprocessing={{input_size: [3, 32, 32], mean: {[0.3] * 3}, std: {[0.4] * 3}}}"
    ]
    main.job(main.settings([*given, "training.scale=5"]))
    said = capsys.readouterr().out
    assert "40 images of 10 classes, 1 left out; loss " in said and "held out: 8 images" in said
    with safe_open(out, "pt") as file:
        weight_KD, bias_K = file.get_tensor("weight"), file.get_tensor("bias")
        metadata = file.metadata()
    assert weight_KD.shape == (10, 256) and bias_K.shape == (10,)
    assert metadata == {"scale": "5.0", "classes": "10", "weights_hash": backbone.weights_hash}
    head = Head(weight_KD, bias_K, float(metadata["scale"]))
    assert head.alpha(torch.zeros(1, 256)).isfinite().all()
    with pytest.raises(UsageError, match=r"held_out=0\.01: of 40 images that leaves none"):
        main.job(main.settings([*given, "held_out=0.01"]))
    with pytest.raises(UsageError, match=r"out=a\.pt: give the path"):
        main.job(main.settings([*given[:2], "out=a.pt"]))
