"""On a GPU: `pytest -m gpu`. Needs torch, timm, numpy and pytest only."""

import pytest
import torch
from conftest import moxi, prepared

from pipeline.engine import Engine, Listed
from pipeline.game import Reads
from pipeline.game.arena import Arena
from pipeline.game.sets import Hands, SetGame
from pipeline.masking.token_drop import TokenDrop
from pipeline.masking.zero import Zero
from pipeline.methods.undesirable import Undesirable, optimise
from pipeline.methods.undesirable_loss import Loss
from pipeline.models.timm import TimmModel
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid
from pipeline.studies.masks.programs import Look, Seen

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


GAMES = [("vit_tiny_patch16_224", TokenDrop()), ("resnet10t", Zero())]


def pictures() -> torch.Tensor:
    noise = torch.randn(6, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, (224, 224), mode="bicubic")


def search(model, image_CHW, masking, objective, key):
    arena = Arena(model, View(image_CHW, model.preprocessing), PatchGrid(grid=7).cut(224, 224), key)
    yield from arena.meet(masking, 3)
    game = yield from arena.open(masking)
    found, _ = yield from arena.play(moxi(objective).explain(game), masking)
    return key, found[objective]


def orders(model, masking, objective, in_flight, **engine):
    tasks = (search(model, x, masking, objective, str(i)) for i, x in enumerate(pictures()))
    return dict(Engine(model, **engine).run(tasks, in_flight=in_flight))


def load(name, device, precision="fp32"):
    model = TimmModel(
        name=name,
        weights="random",
        kwargs={"num_classes": 10},
        preprocessing={"input_size": (3, 224, 224)},
    ).load(device, precision)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.module.parameters():
        if parameter.ndim > 1:
            noise = torch.randn(parameter.shape, generator=generator) * 0.08
            parameter.data.copy_(noise.to(parameter))
    return model


@pytest.mark.parametrize("objective", ["insertion", "deletion"])
@pytest.mark.parametrize(("name", "masking"), GAMES)
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


def launched(program, model, pieces):
    """What a program answers whose launch may not wait for the device."""
    program.launch(model, pieces, lambda forwards: None)  # the first one splits the model, say
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        landed = program.launch(model, pieces, lambda forwards: None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    return program.answer(landed, pieces)


@pytest.mark.parametrize(("name", "masking"), GAMES)
def test_set_games_are_launched_without_waiting_for_the_device(name, masking):
    one_NN = torch.eye(49, dtype=torch.bool)
    reads = (Reads((3,), entropy=True), Reads((3, 5), features=True))

    def answers(model):
        regions_HW = PatchGrid(grid=7).cut(224, 224)
        ready = [prepared(model, masking, image_CHW, regions_HW) for image_CHW in pictures()[:2]]
        pieces = [Hands(*each) for each in zip(ready, (one_NN, one_NN[:9]), reads, strict=True)]
        return launched(SetGame(masking), model, pieces)

    cpu, gpu = answers(load(name, "cpu")), answers(load(name, "cuda"))
    for one, other in zip(cpu, gpu, strict=True):
        assert torch.equal(one.prediction_C, other.prediction_C)
        torch.testing.assert_close(one.log_odds_CT, other.log_odds_CT, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(cpu[0].entropy_C, gpu[0].entropy_C, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(cpu[1].features_CD, gpu[1].features_CD, atol=1e-3, rtol=1e-3)


def test_looks_at_masks_are_launched_without_waiting_for_the_device():
    mask_cc = torch.rand(28, 28, generator=torch.Generator().manual_seed(0))
    rows = Listed(Seen(image_CHW, mask_cc) for image_CHW in pictures())
    look = Look(Undesirable())
    (cpu,), (gpu,) = (launched(look, load("resnet10t", d), [rows]) for d in ("cpu", "cuda"))
    for one_K, other_K in zip(cpu, gpu, strict=True):
        torch.testing.assert_close(one_K, other_K, atol=1e-3, rtol=1e-3)


def test_masks_mean_on_the_gpu_what_they_mean_on_the_cpu():
    cpu, gpu = load("resnet10t", "cpu"), load("resnet10t", "cuda")
    images = pictures()
    variants = [Undesirable(anchor=a, steps=30) for a in ("none", "others", "target")] * 2
    found = optimise(gpu, images, [3] * 6, variants, [0] * 6)
    mask_Bcc = found.mask_Bcc.cpu()
    seen = variants[0].perturb(images, variants[0].blur(images), mask_Bcc)
    loss_of = Loss(variants, [3] * 6, cpu.module(images))
    expected = loss_of(mask_Bcc, cpu.module(seen))
    torch.testing.assert_close(found.final_B.cpu(), expected, atol=1e-3, rtol=1e-3)
    assert (found.final_B[[0, 3]] < found.ones_B[[0, 3]]).all()


@pytest.mark.parametrize("precision", ["fp32", "verified"])
@pytest.mark.parametrize(("name", "masking"), GAMES)
def test_a_whole_search_waits_for_nothing_but_its_answers(name, masking, precision):
    """Where an answer is read its batch's own event is waited for, which PyTorch does not count."""
    model = load(name, "cuda", precision)
    expected = orders(model, masking, "insertion", 6)  # the first splits the model, say
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = orders(model, masking, "insertion", 6)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert {k: v.order for k, v in found.items()} == {k: v.order for k, v in expected.items()}


@pytest.mark.parametrize("objective", ["insertion", "deletion"])
@pytest.mark.parametrize(("name", "masking"), GAMES)
def test_verified_precision_gives_fp32_s_orders(name, masking, objective):
    exact = orders(load(name, "cuda"), masking, objective, 6)
    found = orders(load(name, "cuda", "verified"), masking, objective, 6)
    for key, one in found.items():
        assert one.order == exact[key].order
        assert one.details["delta"] > 0
        torch.testing.assert_close(one.path.value_C, exact[key].path.value_C, atol=1e-3, rtol=1e-3)
