"""On a GPU: `pytest -m gpu`. Needs torch, timm, numpy and pytest only."""

import pytest
import torch

from pipeline.arena import Arena
from pipeline.engine import Engine
from pipeline.masking.token_drop import TokenDrop
from pipeline.masking.zero import Zero
from pipeline.methods.moxi import Moxi
from pipeline.models import TimmModel
from pipeline.players.patch_grid import PatchGrid

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


def search(model, image_CHW, masking, objective, key):
    with torch.no_grad():
        regions_HW = PatchGrid(grid=7)(image_CHW)
        arena = Arena(model, image_CHW, regions_HW, (3,), key)
        game = yield from arena.open(masking)
    method = Moxi(objective=objective)
    found, _ = yield from arena.attribute(method, masking, game, [objective])
    return key, found[objective]


def orders(model, masking, objective, in_flight, **engine):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(6, 3, 14, 14, generator=generator)
    images = torch.nn.functional.interpolate(noise, (224, 224), mode="bicubic")
    tasks = (search(model, x, masking, objective, str(i)) for i, x in enumerate(images))
    return dict(Engine(model, **engine).run(tasks, in_flight=in_flight))


def load(name, device, precision="fp32"):
    model = TimmModel(name=name, weights="random", kwargs={"num_classes": 10}).load(
        device, precision
    )
    generator = torch.Generator().manual_seed(1)
    for parameter in model.module.parameters():
        if parameter.ndim > 1:
            noise = torch.randn(parameter.shape, generator=generator) * 0.08
            parameter.data.copy_(noise.to(parameter))
    return model


@pytest.mark.parametrize("objective", ["insertion", "deletion"])
@pytest.mark.parametrize(
    ("name", "masking"), [("vit_tiny_patch16_224", TokenDrop()), ("resnet10t", Zero())]
)
def test_orders_agree_with_the_cpu(name, masking, objective):
    cpu = orders(load(name, "cpu"), masking, objective, 3)
    gpu = orders(load(name, "cuda"), masking, objective, 6)
    for key, found in cpu.items():
        assert found.order == gpu[key].order
        torch.testing.assert_close(found.path.value_C, gpu[key].path.value_C, atol=1e-3, rtol=1e-3)


def test_orders_do_not_depend_on_batching():
    model = load("vit_tiny_patch16_224", "cuda")
    one = orders(model, TokenDrop(), "insertion", 1)
    many = orders(model, TokenDrop(), "insertion", 6, tokens_per_batch=1000)
    assert {k: v.order for k, v in one.items()} == {k: v.order for k, v in many.items()}


def test_bf16_keeps_most_first_picks():
    exact = orders(load("vit_tiny_patch16_224", "cuda"), TokenDrop(), "insertion", 6)
    rough = orders(load("vit_tiny_patch16_224", "cuda", "bf16"), TokenDrop(), "insertion", 6)
    assert sum(exact[k].order[0] == rough[k].order[0] for k in exact) >= 4
    assert all(sorted(found.order) == list(range(49)) for found in rough.values())


def test_memory_that_is_too_small_halves_the_budget():
    model = load("vit_tiny_patch16_224", "cuda")
    expected = orders(model, TokenDrop(), "insertion", 6)
    torch.cuda.set_per_process_memory_fraction(
        0.2e9 / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        found = orders(model, TokenDrop(), "insertion", 6, tokens_per_batch=10**7)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert {k: v.order for k, v in found.items()} == {k: v.order for k, v in expected.items()}


def test_masks_mean_on_the_gpu_what_they_mean_on_the_cpu():
    from pipeline.methods.undesirable import Undesirable, _Loss, optimise

    cpu, gpu = load("resnet10t", "cpu"), load("resnet10t", "cuda")
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(6, 3, 14, 14, generator=generator)
    images = torch.nn.functional.interpolate(noise, (224, 224), mode="bicubic")
    variants = [Undesirable(anchor=a, steps=30) for a in ("none", "others", "target")] * 2
    found = optimise(gpu, images, [3] * 6, variants, [0] * 6)
    mask_Bcc = found.mask_Bcc.cpu()
    seen = variants[0].perturb(images, variants[0].blur(images), mask_Bcc)
    loss_of = _Loss(variants, [3] * 6, cpu.module(images))
    expected = loss_of(mask_Bcc, cpu.module(seen))
    torch.testing.assert_close(found.final_B.cpu(), expected, atol=1e-3, rtol=1e-3)
    assert (found.final_B[[0, 3]] < found.ones_B[[0, 3]]).all()
