"""Saliency against gradients by hand, RISE against its definition; both through the engine."""

import numpy as np
import pytest
import torch
from conftest import heats

from pipeline import UsageError
from pipeline.methods.readings import Places
from pipeline.methods.rise import Rise, SoftMasks
from pipeline.methods.saliency import Saliency


def test_saliency_is_the_gradient(linear):
    images = list(torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1)))
    targets = [0, 1, 2, 0]
    maps, engine = heats(linear, Saliency(), images, targets)
    weight_KCHW = linear.module.weight_KP.view(3, 3, 12, 12)
    for heat_HW, target in zip(maps, targets, strict=True):
        torch.testing.assert_close(heat_HW, weight_KCHW[target].abs().amax(0))
    assert engine.counters.batches == 1 and engine.counters.forwards == 4
    (heat_HW,), _ = heats(linear, Saliency(read="probability"), images[:1], [1])
    p_K = linear.logits(images[0][None]).softmax(1)[0]
    slope_CHW = p_K[1] * (weight_KCHW[1] - (p_K[:, None, None, None] * weight_KCHW).sum(0))
    torch.testing.assert_close(heat_HW, slope_CHW.abs().amax(0))
    with pytest.raises(UsageError, match=r"saliency\.read"):
        Saliency(read="odds")


def test_rise_is_its_definition_however_rows_are_batched(linear):
    rise = Rise(forwards=150, grid=3)
    images = list(torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(2)))
    maps, engine = heats(linear, rise, images, [1, 2])
    assert engine.counters.forwards == 2 * rise.most_forwards(9) == 300
    masks_MHW = SoftMasks(rise)._masks(linear, np.arange(150))
    assert float(masks_MHW.min()) >= 0 and float(masks_MHW.max()) <= 1
    assert float(masks_MHW.mean()) == pytest.approx(0.5, abs=0.03)
    for image_CHW, target, heat_HW in zip(images, [1, 2], maps, strict=True):
        p_M = linear.logits(image_CHW * masks_MHW[:, None]).softmax(1)[:, target]
        expected_HW = (p_M[:, None, None] * masks_MHW).sum(0) / (150 * 0.5)
        torch.testing.assert_close(heat_HW, expected_HW)
    again, _ = heats(linear, rise, images, [1, 2], tokens_per_batch=7)
    for one, other in zip(maps, again, strict=True):
        torch.testing.assert_close(one, other)


def test_rows_of_rise_may_be_taken_apart():
    rows = Places(torch.zeros(3, 2, 2), 0, np.arange(10, 20))
    assert len(rows.take(np.array([1, 3]))) == 2
    assert rows.take(np.array([1, 3])).places.tolist() == [11, 13]


@pytest.mark.parametrize("wrong", [{"forwards": 0}, {"grid": 0}, {"keep": 1.0}])
def test_settings_of_rise_that_are_none_are_named(wrong):
    with pytest.raises(UsageError, match=rf"rise\.{next(iter(wrong))}="):
        Rise(**wrong)
