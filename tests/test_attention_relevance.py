import pytest
import torch
from conftest import sharpened

from pipeline import UsageError
from pipeline.methods.attention_relevance import AttentionRelevance, relevance
from pipeline.methods.heatmaps import from_heatmap
from pipeline.models.timm import TimmModel
from pipeline.players.patch_grid import PatchGrid

pytestmark = pytest.mark.usefixtures("one_thread")

VITS = {
    "class token": {},
    "class token, 4 registers": {"reg_tokens": 4, "no_embed_class": True},
    "average": {"global_pool": "avg", "class_token": False},
}


@pytest.fixture(params=VITS, ids=str)
def vit(request):
    return sharpened(
        TimmModel(name="test_vit", weights="random", kwargs=VITS[request.param]).load()
    )


def images(model, n: int = 2) -> torch.Tensor:
    size = model.preprocessing["input_size"]
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(1))


def with_gradient(attention, gradient) -> torch.Tensor:
    """One image's heads (1, h, 3, 3)."""
    attention = torch.tensor(attention)[None]
    attention.grad = torch.tensor(gradient)[None]
    return attention


def test_three_tokens_in_two_layers_by_hand():
    first = with_gradient(
        [
            [[0.5, 0.5, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]],
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]],
        ],
        [
            [[0.0, 4.0, 1.0], [1.0, -1.0, 0.0], [2.0, 2.0, 0.0]],
            [[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [4.0, 0.0, -2.0]],
        ],
    )
    # the mean over heads of what is positive: 1 at (0, 1), 0.1 at (1, 0), 1 at (2, 0)
    second = with_gradient(
        [[[0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]] * 2,
        [[[0.0, 10.0, 4.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]] * 2,
    )
    # 3 at (0, 1), 2 at (0, 2)
    once = [[1.0, 1.0, 0.0], [0.1, 1.0, 0.0], [1.0, 0.0, 1.0]]
    twice = [[1 + 0.3 + 2.0, 1 + 3.0, 2.0], *once[1:]]
    torch.testing.assert_close(relevance([first])[0], torch.tensor(once))
    torch.testing.assert_close(relevance([first, second])[0], torch.tensor(twice))


def relevance_by_hand(vit, image_CHW, target: int) -> torch.Tensor:
    """From projections, with autograd through attention of our own: (L, L)."""
    x = vit.norm_pre(vit._pos_embed(vit.patch_embed(image_CHW[None])))
    kept = []
    for block in vit.blocks:
        heads, width = block.attn.num_heads, block.attn.head_dim
        qkv = block.attn.qkv(block.norm1(x))[0].unflatten(1, (3, heads, width))
        q, k, v = qkv.permute(1, 2, 0, 3)
        attention = (q @ k.mT / width**0.5).softmax(-1)
        kept.append(attention if attention.requires_grad else attention.requires_grad_(True))
        mixed = (kept[-1] @ v).transpose(0, 1).flatten(1)[None]
        x = x + block.ls1(block.attn.proj(mixed))
        x = x + block.ls2(block.mlp(block.norm2(x)))
    logit = vit.forward_head(vit.norm(x))[0, target]
    slopes = torch.autograd.grad(logit, kept)
    found = torch.eye(x.shape[1], dtype=torch.float64)
    for attention, slope in zip(kept, slopes, strict=True):
        favoured = (attention * slope).detach().clamp_min(0).double().mean(0)
        found = found + favoured @ found
    return found


def test_heat_is_the_relevance_of_patches(vit):
    module, x_BCHW, targets = vit.module, images(vit), [0, 3]
    prefix, grid = module.num_prefix_tokens, module.patch_embed.grid_size
    found_BHW = AttentionRelevance().heatmaps(vit, x_BCHW, targets)
    for found_HW, image_CHW, target in zip(found_BHW, x_BCHW, targets, strict=True):
        product_LL = relevance_by_hand(module, image_CHW, target)
        rows = product_LL[0] if module.global_pool == "token" else product_LL[prefix:].mean(0)
        heat_L = (rows[prefix:] / rows[prefix:].max()).float()
        attribution = from_heatmap(found_HW, PatchGrid(grid=grid[0]).cut(*vit.input_hw), 1)
        assert attribution.scores_N is not None
        torch.testing.assert_close(attribution.scores_N.float(), heat_L, atol=1e-4, rtol=1e-3)
    other_BHW = AttentionRelevance().heatmaps(vit, x_BCHW, [1, 2])
    assert not torch.allclose(found_BHW, other_BHW, atol=1e-3)  # unlike rollout


def test_batch_equals_single(vit):
    x_BCHW, targets = images(vit, 3), [0, 1, 2]
    together = AttentionRelevance().heatmaps(vit, x_BCHW, targets)
    alone = [
        AttentionRelevance().heatmaps(vit, x_BCHW[i : i + 1], [target])
        for i, target in enumerate(targets)
    ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-3)


def test_models_without_attention_over_all_tokens_are_refused():
    model = TimmModel(name="resnet10t", weights="random").load()
    with pytest.raises(UsageError, match=r"chefer: .* no plain Vision Transformer.*gradcam"):
        AttentionRelevance().heatmaps(model, images(model), [0, 0])
