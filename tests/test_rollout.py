import pytest
import torch
from conftest import sharpened

from pipeline import UsageError
from pipeline.methods.heatmaps import from_heatmap
from pipeline.methods.rollout import Rollout, joint_attention
from pipeline.models.timm import TimmModel
from pipeline.players.patch_grid import PatchGrid

VITS = {
    "class token": ("test_vit", {}),
    "class token, 4 registers": ("test_vit", {"reg_tokens": 4, "no_embed_class": True}),
    "average": ("test_vit", {"global_pool": "avg", "class_token": False}),
    "average beside a class token": ("test_vit", {"global_pool": "avg"}),
    "distilled": ("deit_tiny_distilled_patch16_224", {"depth": 2}),
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=VITS, ids=str)
def vit(request):
    name, kwargs = VITS[request.param]
    return sharpened(TimmModel(name=name, weights="random", kwargs=kwargs).load())


def images(model, n: int = 2) -> torch.Tensor:
    size = model.preprocessing["input_size"]
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(1))


def rollout_by_hand(vit, image_CHW) -> torch.Tensor:
    """Head by head from the projections of one image, without the model's attention: (L, L)."""
    x = vit.norm_pre(vit._pos_embed(vit.patch_embed(image_CHW[None])))
    product = torch.eye(x.shape[1], dtype=torch.float64)
    for block in vit.blocks:
        heads, width = block.attn.num_heads, block.attn.head_dim
        q, k, _ = block.attn.qkv(block.norm1(x))[0].double().chunk(3, dim=1)
        attention = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
        for h in range(heads):
            own = slice(h * width, (h + 1) * width)
            attention += (q[:, own] @ k[:, own].T / width**0.5).softmax(1) / heads
        mixed = attention + torch.eye(len(attention))
        # the authors of MoXI divide by the sum of the whole matrix: the same up to a constant
        product = (mixed / mixed.sum()) @ product
        x = block(x)
    return product


def test_rollout_is_the_product_of_the_layers_attention(vit):
    module, x_BCHW = vit.module, images(vit)
    prefix, grid = module.num_prefix_tokens, module.patch_embed.grid_size
    found_BHW = Rollout().heatmaps(vit, x_BCHW, [0, 1])
    assert found_BHW.shape == (2, *vit.input_hw)
    with torch.no_grad():
        for found_HW, image_CHW in zip(found_BHW, x_BCHW, strict=True):
            product_LL = rollout_by_hand(module, image_CHW)
            rows = product_LL[0] if module.global_pool == "token" else product_LL[prefix:].mean(0)
            heat_L = (rows[prefix:] / rows[prefix:].max()).float()
            attribution = from_heatmap(found_HW, PatchGrid(grid=grid[0]).cut(*vit.input_hw), 1)
            assert attribution.scores_N is not None
            torch.testing.assert_close(attribution.scores_N.float(), heat_L, atol=1e-5, rtol=1e-4)
    assert found_BHW.amax((1, 2)).tolist() == [1, 1]
    assert not torch.allclose(found_BHW[0], found_BHW[1], atol=1e-3)


def test_rows_of_the_joint_attention_sum_to_one():
    raw = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(0)).softmax(-1)
    torch.testing.assert_close(joint_attention(list(raw)).sum(-1), torch.ones(2, 6))


def test_attention_that_stays_at_home_mixes_nothing():
    identity = torch.eye(4).expand(2, 4, 4)
    torch.testing.assert_close(joint_attention([identity] * 3), identity)


def test_three_tokens_in_two_layers_by_hand():
    """(A + I) / 2 of each, the second layer's times the first's, worked out on paper."""
    first = torch.tensor([[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 1.0]])
    second = torch.tensor([[0, 0.6, 0.4], [1, 0, 0], [0.2, 0.3, 0.5]])
    expected = torch.tensor(
        [[0.375, 0.3625, 0.2625], [0.375, 0.5625, 0.0625], [0.075, 0.1625, 0.7625]]
    )
    found = joint_attention([first[None], second[None]])
    torch.testing.assert_close(found[0], expected)


def test_batch_equals_single(vit):
    x_BCHW = images(vit, 3)
    together = Rollout().heatmaps(vit, x_BCHW, [0, 1, 2])
    alone = torch.cat([Rollout().heatmaps(vit, x[None], [0]) for x in x_BCHW])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails):
    model = TimmModel(name="test_vit", weights="random").load()
    attentions = [block.attn for block in model.module.blocks]
    for i, attention in enumerate(attentions):
        attention.fused_attn = i % 2 == 0
    x_BCHW = images(model)
    if fails:
        with pytest.raises(AssertionError, match="Input"):
            Rollout().heatmaps(model, x_BCHW[..., :-1], [0, 0])
    else:
        Rollout().heatmaps(model, x_BCHW, [0, 0])
    assert [a.fused_attn for a in attentions] == [i % 2 == 0 for i in range(len(attentions))]
    assert not any(a.attn_drop._forward_pre_hooks for a in attentions)


@pytest.mark.parametrize("name", ["resnet10t", "swin_tiny_patch4_window7_224", "test_vit_relpos"])
def test_models_without_attention_over_all_tokens_are_refused(name):
    model = TimmModel(name=name, weights="random").load()
    with pytest.raises(UsageError, match=r"rollout: .* no plain Vision Transformer.*gradcam"):
        Rollout().heatmaps(model, images(model), [0, 0])
