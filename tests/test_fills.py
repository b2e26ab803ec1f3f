import builtins

import numpy as np
import pytest
import torch
from conftest import logits, prepared

from pipeline import UsageError
from pipeline.data.images import decode
from pipeline.engine import Engine
from pipeline.game.arena import Arena
from pipeline.masking.adversarial import Adversarial
from pipeline.masking.corruption import KINDS, Corruption
from pipeline.models.timm import TimmModel
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid

CONFIGURED = ("gaussian_noise", "fog", "brightness", "motion_blur")
ATTACKS = (Adversarial(attack="fgsm"), Adversarial(attack="pgd"))
FILLS = (*(Corruption(kind=kind) for kind in CONFIGURED), *ATTACKS)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images(tiny_model, photographs):
    return [tiny_model.transform(decode(encoded)) for encoded in list(photographs.values())[:4]]


def raw(model, image_CHW):
    mean, std = (torch.tensor(model.preprocessing[k])[:, None, None] for k in ("mean", "std"))
    return image_CHW.float() * std + mean


def grey(model):
    return model.normalise(0.5).expand(3, 160, 160)


@pytest.mark.parametrize("masking", FILLS)
def test_the_fill_is_another_image_always_the_same_one(masking, tiny_model, images):
    for image_CHW in images[:1]:
        fill_CHW = masking.fill(tiny_model, image_CHW)
        assert fill_CHW.shape == image_CHW.shape
        assert fill_CHW.dtype == torch.float32
        assert not fill_CHW.requires_grad
        assert (fill_CHW - image_CHW).abs().mean() > 0.01
        assert torch.equal(fill_CHW, masking.fill(tiny_model, image_CHW))
        raw_CHW = raw(tiny_model, fill_CHW)
        assert raw_CHW.min() > -1e-6
        assert raw_CHW.max() < 1 + 1e-6


@pytest.mark.parametrize("masking", FILLS)
def test_everything_hidden_is_the_plain_forward_of_the_fill(masking, tiny_model, images):
    with torch.no_grad():
        ready = prepared(tiny_model, masking, images[0], PatchGrid(grid=2).cut(160, 160))
        logits_BK = logits(tiny_model, masking, ready, torch.tensor([[False] * 4, [True] * 4]))
        fill_CHW = masking.fill(tiny_model, images[0])
        for logits_K, seen_CHW in zip(logits_BK, (fill_CHW, images[0]), strict=True):
            torch.testing.assert_close(logits_K, tiny_model.module(seen_CHW[None])[0])


@pytest.mark.parametrize("kind", KINDS)
def test_randomness_is_the_image_s_own(kind, tiny_model, images):
    masking = Corruption(kind=kind)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first_CHW = masking.fill(tiny_model, images[0])
    assert np.array_equal(before, np.random.get_state()[1])
    np.random.seed(2)
    assert torch.equal(first_CHW, masking.fill(tiny_model, images[0]))


@pytest.mark.parametrize("kind", ["gaussian_noise", "brightness", "contrast"])
def test_higher_severities_are_farther_from_the_image(kind, tiny_model, images):
    for image_CHW in images:
        far = [
            (Corruption(kind=kind, severity=s).fill(tiny_model, image_CHW) - image_CHW).abs().mean()
            for s in range(1, 6)
        ]
        assert far == sorted(far)
        assert far[0] < far[-1]


def test_brightness_raises_every_photograph_s_mean(tiny_model, images):
    for image_CHW in images:
        fill_CHW = Corruption(kind="brightness").fill(tiny_model, image_CHW)
        assert raw(tiny_model, fill_CHW).mean() > raw(tiny_model, image_CHW).mean() + 0.1


def test_motion_blur_leaves_a_flat_image_and_smooths_a_photograph(tiny_model, images):
    masking = Corruption(kind="motion_blur")
    flat_CHW = masking.fill(tiny_model, grey(tiny_model))
    # 8 bit on both ways
    torch.testing.assert_close(
        raw(tiny_model, flat_CHW), torch.full_like(flat_CHW, 0.5), atol=0.01, rtol=0
    )
    for image_CHW in images:
        assert (
            masking.fill(tiny_model, image_CHW).diff().abs().mean() < image_CHW.diff().abs().mean()
        )


@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.08), (2, 0.12), (3, 0.18)])
def test_noise_has_the_stated_deviation(severity, sigma, tiny_model):
    # at mid grey hardly any of it is clipped
    fill_CHW = Corruption(kind="gaussian_noise", severity=severity).fill(
        tiny_model, grey(tiny_model)
    )
    noise_CHW = raw(tiny_model, fill_CHW) - 0.5
    assert noise_CHW.std() == pytest.approx(sigma, rel=0.02)
    assert abs(noise_CHW.mean()) < 0.005


def test_noise_differs_between_images_and_seeds(tiny_model):
    one_CHW = grey(tiny_model)
    other_CHW = one_CHW.clone()
    other_CHW[:, 0, 0] = 0
    noises = [
        Corruption(kind="gaussian_noise", severity=1, seed=seed).fill(tiny_model, image_CHW)
        for image_CHW, seed in ((one_CHW, 0), (other_CHW, 0), (one_CHW, 1))
    ]
    noises_FP = torch.stack([(n - one_CHW)[:, 1:].flatten() for n in noises])
    assert (torch.corrcoef(noises_FP) - torch.eye(3)).abs().max() < 0.03


def test_unknown_settings_and_a_missing_package_name_the_fix(tiny_model, images, monkeypatch):
    with pytest.raises(UsageError, match=r"masking.kind='rain'.*gaussian_noise"):
        Corruption(kind="rain")
    with pytest.raises(UsageError, match=r"masking\.severity=6"):
        Corruption(kind="fog", severity=6)
    with pytest.raises(UsageError, match="'pgd' or 'fgsm'"):
        Adversarial(attack="cw")
    with pytest.raises(UsageError, match=r"masking.steps=0.*positive"):
        Adversarial(steps=0)
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "imagecorruptions":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match="pip install imagecorruptions-imaug"):
        Corruption(kind="fog").fill(tiny_model, images[0])


def confidence(model, image_CHW, target):
    return model.module(image_CHW[None].to(model.dtype)).float().softmax(1)[0, target]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attacks_lower_the_model_s_own_prediction_within_epsilon(precision, images):
    model = TimmModel(name="test_efficientnet", weights="random", kwargs={"num_classes": 10}).load(
        precision=precision
    )
    left: dict[str, list[float]] = {"fgsm": [], "pgd": []}
    with torch.no_grad():
        for image_CHW in images if precision == "fp32" else images[:1]:
            clean_CHW = image_CHW.to(model.dtype)
            target = int(model.module(clean_CHW[None]).argmax())
            before = confidence(model, clean_CHW, target)
            for masking in ATTACKS:
                fill_CHW = masking.fill(model, clean_CHW)
                far_CHW = (raw(model, fill_CHW) - raw(model, clean_CHW)).abs()
                if precision == "fp32":  # a bf16 image may round to just outside of 0..1
                    assert far_CHW.max() < masking.epsilon + 1e-6
                assert far_CHW.max() < masking.epsilon + 0.01
                assert far_CHW.mean() > masking.epsilon / 4
                after = confidence(model, fill_CHW, target)
                assert after < before
                left[masking.attack].append(float(after))
    assert np.mean(left["pgd"]) <= np.mean(left["fgsm"])


def test_pgd_of_one_full_step_is_fgsm_and_weights_stay_frozen(tiny_model, images):
    fgsm, _ = ATTACKS
    pgd = Adversarial(attack="pgd", steps=1, step_size=fgsm.epsilon)
    assert torch.equal(fgsm.fill(tiny_model, images[0]), pgd.fill(tiny_model, images[0]))
    assert all(p.grad is None and not p.requires_grad for p in tiny_model.module.parameters())


@pytest.mark.parametrize("masking", ATTACKS)
def test_images_attacked_together_are_those_attacked_alone_and_forwards_count(
    masking, tiny_model, images
):
    regions_HW = PatchGrid(grid=2).cut(160, 160)

    def filled(image_CHW):
        arena = Arena(tiny_model, View(image_CHW, tiny_model.preprocessing), regions_HW, "")
        yield from arena.prepare(masking)
        return arena._prepared[masking].fill_CHW

    engine = Engine(tiny_model, tokens_per_batch=10_000)
    together = list(engine.run([filled(x) for x in images], in_flight=4))
    assert engine.counters.batches == 1
    assert engine.counters.forwards == 4 * (1 + masking.passes)
    for found, image_CHW in zip(together, images, strict=True):
        alone_CHW = masking.fill(tiny_model, image_CHW)
        assert ((found - alone_CHW).abs() > 1e-4).float().mean() < 0.01  # signs of next to nothing
