import pytest
import torch
from conftest import logits, moxi, prepared
from timm.models.vision_transformer import ResPostBlock

from pipeline import UsageError
from pipeline.engine import Engine
from pipeline.game.arena import Arena
from pipeline.masking.token_drop import TokenDrop
from pipeline.models.timm import TimmModel
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid

pytestmark = pytest.mark.usefixtures("one_thread")

VITS = {
    "class token": ("test_vit", {}),
    "class token, 4 registers": ("test_vit", {"reg_tokens": 4, "no_embed_class": True}),
    "average": ("test_vit", {"global_pool": "avg", "class_token": False}),
    "average beside a class token": ("test_vit", {"global_pool": "avg"}),
    "distilled": ("deit_tiny_distilled_patch16_224", {"depth": 2}),
    "one block": ("test_vit", {"depth": 1, "qkv_bias": False}),
    "norms and scales": (
        "test_vit",
        {"qk_norm": True, "scale_attn_norm": True, "init_values": 0.5},
    ),
    "another block": ("test_vit", {"block_fn": ResPostBlock, "init_values": 0.5}),
}


@pytest.fixture(params=VITS, ids=str)
def vit(request):
    name, kwargs = VITS[request.param]
    model = TimmModel(name=name, weights="random", kwargs=kwargs).load()
    for parameter in model.module.parameters():  # positions and registers must matter
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
        else:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def image(model) -> torch.Tensor:
    return torch.randn(
        model.preprocessing["input_size"], generator=torch.Generator().manual_seed(0)
    )


def grid(model) -> int:
    return model.module.patch_embed.grid_size[0]


def regions(model) -> torch.Tensor:
    return PatchGrid(grid=grid(model)).cut(*model.input_hw)


def test_full_coalition_is_the_plain_forward(vit):
    x = image(vit)
    ready = prepared(vit, TokenDrop(), x, regions(vit))
    everyone = torch.ones(1, grid(vit) ** 2, dtype=torch.bool)
    found = logits(vit, TokenDrop(), ready, everyone)
    with torch.inference_mode():
        torch.testing.assert_close(found, vit.module(x[None]), atol=1e-5, rtol=1e-5)


def test_hidden_patches_cannot_matter_and_visible_ones_do(vit):
    regions_HW = regions(vit)
    half = torch.arange(grid(vit) ** 2) % 2 == 0
    one, hidden, seen = image(vit), image(vit), image(vit)
    hidden[:, ~half[regions_HW]] += 1.0
    seen[:, half[regions_HW]] += 1.0
    a, b, c = (
        logits(vit, TokenDrop(), prepared(vit, TokenDrop(), x, regions_HW), half[None])
        for x in (one, hidden, seen)
    )
    assert torch.equal(a, b)
    assert (a - c).abs().max() > 1e-4


def test_dropping_is_masking_attention_in_every_layer():
    """The paper's wording: hidden keys get -inf everywhere; the class token's output agrees."""
    vit = TimmModel(name="test_vit", weights="random").load()
    x = image(vit)
    n = grid(vit) ** 2
    visible = torch.rand(n, generator=torch.Generator().manual_seed(1)) < 0.4
    ready = prepared(vit, TokenDrop(), x, regions(vit))
    bias = torch.zeros(1, 1, 1, n + 1).masked_fill(
        torch.cat([torch.tensor([False]), ~visible]), -torch.inf
    )
    found = logits(vit, TokenDrop(), ready, visible[None])
    with torch.inference_mode():
        expected = vit.module.forward_head(vit.module.forward_features(x[None], attn_mask=bias))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_empty_coalition_is_the_prefix_alone(vit):
    x = image(vit)
    ready = prepared(vit, TokenDrop(), x, regions(vit))
    nobody = torch.zeros(1, grid(vit) ** 2, dtype=torch.bool)
    prefix = vit.module.num_prefix_tokens
    assert TokenDrop().lengths(vit, ready, nobody) == prefix
    assert logits(vit, TokenDrop(), ready, nobody).isfinite().all()


def test_players_may_hold_several_patches_but_not_cut_one():
    vit = TimmModel(name="vit_tiny_patch16_224", weights="random", kwargs={"depth": 1}).load()
    x = image(vit)
    ready = prepared(vit, TokenDrop(), x, PatchGrid(grid=7).cut(224, 224))
    one = torch.zeros(1, 49, dtype=torch.bool)
    one[0, 8] = True
    assert TokenDrop().lengths(vit, ready, one) == 1 + 4
    with pytest.raises(UsageError, match=r"cut through .*\[1, 2, 7, 14\]"):
        TokenDrop().begin(vit, x, PatchGrid(grid=8).cut(224, 224))


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "resnet10t"])
def test_models_that_mix_tokens_by_place_are_refused(name):
    model = TimmModel(name=name, weights="random").load()
    x = image(model)
    with pytest.raises(UsageError, match=r"token_drop: .* no plain Vision Transformer.*zero"):
        TokenDrop().begin(model, x, torch.zeros(x.shape[1:]).long())


@pytest.mark.parametrize("objective", ["insertion", "deletion"])
def test_a_search_spends_the_tokens_that_its_rows_show(objective):
    """Sum over steps of remaining candidates times (visible patches + prefix), and nothing else."""
    vit = TimmModel(name="test_vit", weights="random", kwargs={"num_classes": 5}).load()
    n = grid(vit) ** 2

    def search():
        arena = Arena(vit, View(image(vit), vit.preprocessing), regions(vit), "")
        yield from arena.meet(TokenDrop(), 0)
        game = yield from arena.open(TokenDrop())
        return (yield from arena.play(moxi(objective).explain(game), TokenDrop()))

    engine = Engine(vit)
    list(engine.run([search()], in_flight=1))
    ends = (n + 1) + 1
    visible = [k if objective == "insertion" else n - k for k in range(1, n + 1)]
    floor = sum((n - k) * (visible[k] + 1) for k in range(n))
    assert engine.counters.tokens == floor + ends
    assert engine.counters.forwards == n * (n + 1) // 2 + 2
