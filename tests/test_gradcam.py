import pytest
import torch
from torch.nn.functional import interpolate

from pipeline.game import Game, Outputs, drive
from pipeline.methods.gradcam import GradCam, first_component
from pipeline.methods.heatmaps import from_heatmap
from pipeline.models.timm import TimmModel
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid

pytestmark = pytest.mark.usefixtures("one_thread")


def test_heatmap_is_the_weighted_feature_map():
    """Against the definition, relu(sum_k mean(dz/dA_k) A_k), on a ResNet's last feature map."""
    model = TimmModel(name="resnet10t", weights="random", kwargs={"num_classes": 5}).load()
    images_BCHW = torch.randn(2, 3, 176, 176, generator=torch.Generator().manual_seed(1))
    targets = [1, 3]
    features = model.module.forward_features(images_BCHW.clone().requires_grad_(True))
    features.retain_grad()
    logits = model.module.forward_head(features)
    logits[range(2), targets].sum().backward()
    cam = (features.grad.mean((2, 3), keepdim=True) * features).sum(1).relu().detach()
    found = GradCam().heatmaps(model, images_BCHW.clone(), targets)
    expected = torch.nn.functional.interpolate(cam[:, None], (176, 176), mode="bilinear")[:, 0]
    for b in range(2):
        scaled = (expected[b] - cam[b].min()) / (cam[b].max() - cam[b].min())
        torch.testing.assert_close(found[b], scaled, atol=1e-4, rtol=1e-3)


VITS = {
    "class token": {},
    "class token, 4 registers": {"reg_tokens": 4, "no_embed_class": True},
    "average": {"global_pool": "avg", "class_token": False},
}


@pytest.fixture(params=VITS, ids=str)
def vit(request):
    return TimmModel(name="test_vit", weights="random", kwargs=VITS[request.param]).load()


def images(model, n: int = 2) -> torch.Tensor:
    size = model.preprocessing["input_size"]
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(1))


def scaled(map_hw: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """0 to 1, at the input's size."""
    map_hw = (map_hw - map_hw.min()) / (map_hw.max() - map_hw.min())
    return interpolate(map_hw[None, None], size, mode="bilinear")[0, 0]


def weighted_tokens(vit, image_CHW, target: int) -> torch.Tensor:
    """mean_i(dz/dA_ik) A_ik of the last block's first layer norm, patches only: (L, D)."""
    module, kept = vit.module, []
    handle = module.blocks[-1].norm1.register_forward_hook(lambda m, i, out: kept.append(out))
    logits = module(image_CHW[None].clone().requires_grad_(True))
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[0, target], kept)
    own = slice(module.num_prefix_tokens, None)
    return (gradient[0, own].mean(0) * kept[0][0, own]).detach()


def test_heatmap_of_a_vision_transformer_is_the_weighted_tokens(vit):
    x_BCHW, grid = images(vit), vit.module.patch_embed.grid_size
    assert vit.feature_layer == f"blocks.{len(vit.module.blocks) - 1}.norm1"
    found_BHW = GradCam().heatmaps(vit, x_BCHW.clone(), [1, 3])
    for found_HW, image_CHW, target in zip(found_BHW, x_BCHW, [1, 3], strict=True):
        cam_hw = weighted_tokens(vit, image_CHW, target).sum(1).relu().view(grid)
        assert cam_hw.max() > cam_hw.min()
        torch.testing.assert_close(found_HW, scaled(cam_hw, vit.input_hw), atol=1e-3, rtol=1e-3)


def test_eigen_smooth_is_the_first_principal_component(vit):
    x_BCHW, grid = images(vit), vit.module.patch_embed.grid_size
    found_BHW = GradCam(eigen_smooth=True).heatmaps(vit, x_BCHW.clone(), [1, 3])
    for found_HW, image_CHW, target in zip(found_BHW, x_BCHW, [1, 3], strict=True):
        tokens_LD = weighted_tokens(vit, image_CHW, target).double()
        axis_D = torch.linalg.eigh(tokens_LD.T.cov()).eigenvectors[:, -1]
        map_L = (tokens_LD - tokens_LD.mean(0)) @ axis_D
        plain_L = tokens_LD.sum(1)
        map_L = map_L * torch.corrcoef(torch.stack([map_L, plain_L]))[0, 1].sign()
        expected_HW = scaled(map_L.relu().view(grid).float(), vit.input_hw)
        torch.testing.assert_close(found_HW, expected_HW, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_first_component_of_one_pattern_is_that_pattern(sign):
    """On A_kx = a_k s_x the plain map is s up to scale; so is the component, about the mean."""
    generator = torch.Generator().manual_seed(2)
    a_BD = torch.randn(3, 8, generator=generator)
    a_BD = sign * a_BD * a_BD.sum(1, keepdim=True).sign()  # channels sum to a number of this sign
    s_Bhw = torch.randn(3, 4, 5, generator=generator)
    s_Bhw -= s_Bhw.mean((1, 2), keepdim=True)
    weighted_BDhw = a_BD[:, :, None, None] * s_Bhw[:, None]
    plain_Bhw = weighted_BDhw.sum(1).relu()
    plain_Bhw /= plain_Bhw.amax((1, 2), keepdim=True)
    torch.testing.assert_close(first_component(weighted_BDhw), plain_Bhw)
    offset_BDhw = weighted_BDhw + torch.randn(3, 8, 1, 1, generator=generator)
    torch.testing.assert_close(first_component(offset_BDhw), plain_Bhw)


def test_first_component_of_nothing_is_nothing():
    assert first_component(torch.zeros(2, 3, 4, 4)).abs().max() == 0
    assert first_component(torch.full((2, 3, 4, 4), torch.nan)).abs().max() == 0


def test_aug_smooth_is_the_mean_over_flips_and_factors(vit):
    x_BCHW = images(vit)
    one = GradCam()
    expected = torch.stack(
        [
            maps.flip(-1) if flip else maps
            for flip in (False, True)
            for factor in (0.9, 1.0, 1.1)
            for x in [(x_BCHW.flip(-1) if flip else x_BCHW) * factor]
            for maps in [one.heatmaps(vit, x, [1, 3])]
        ]
    ).mean(0)
    found = GradCam(aug_smooth=True).heatmaps(vit, x_BCHW, [1, 3])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    mirrored = GradCam(aug_smooth=True).heatmaps(vit, x_BCHW.flip(-1), [1, 3])
    torch.testing.assert_close(mirrored, found.flip(-1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", [GradCam(), GradCam(eigen_smooth=True, aug_smooth=True)])
def test_batch_equals_single(vit, method):
    x_BCHW, targets = images(vit, 3), [1, 3, 1]
    together = method.heatmaps(vit, x_BCHW.clone(), targets)
    alone = torch.cat(
        [
            method.heatmaps(vit, x[None].clone(), [target])
            for x, target in zip(x_BCHW, targets, strict=True)
        ]
    )
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-3)


def test_cam_layer_wins():
    model = TimmModel(name="test_vit", weights="random", cam_layer="blocks.1.norm2").load()
    assert model.feature_layer == "blocks.1.norm2"
    other = TimmModel(name="test_vit", weights="random", cam_layer="patch_embed.proj").load()
    x_BCHW = images(model)
    found, conv = (GradCam().heatmaps(m, x_BCHW.clone(), [1, 3]) for m in (model, other))
    assert found.shape == conv.shape == (2, *model.input_hw)
    assert not torch.allclose(found, conv)


@pytest.mark.parametrize(("aug_smooth", "forwards"), [(False, 1), (True, 6)])
def test_evaluations_count_the_forwards(tiny_model, aug_smooth, forwards):
    method = GradCam(aug_smooth=aug_smooth)
    assert tiny_model.feature_layer  # found by a forward, once a model
    calls = []
    handle = tiny_model.module.register_forward_hook(lambda *_: calls.append(1))
    image_CHW = images(tiny_model)[0]
    heatmap_HW = method.heatmaps(tiny_model, image_CHW[None].clone(), [0])[0]
    handle.remove()
    assert len(calls) == forwards == method.most_forwards(16)
    empty = torch.zeros(2, 1)
    game = Game(
        n_players=16,
        key="key",
        ends=Outputs.of((0,), empty, empty, empty[:, 0]),
        view=View(image_CHW, tiny_model.preprocessing),
        regions_HW=PatchGrid(grid=4).cut(160, 160),
    )
    found = drive(method.explain(game), lambda request: [heatmap_HW] * len(request.rows))
    assert found["insertion"].evaluations == forwards


def test_order_of_a_heatmap_is_by_region_means():
    regions_HW = PatchGrid(grid=2).cut(4, 4)
    heat_HW = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 9], [5, 5, 5, 5], [5, 5, 5, 5.0]])
    found = from_heatmap(heat_HW, regions_HW, evaluations=1)
    assert found.order == [1, 2, 3, 0]
    assert found.scores_N.tolist() == [0, 9, 5, 5]


@pytest.mark.parametrize("bad", [torch.ones(4, 4), torch.full((4, 4), torch.nan)])
def test_a_map_that_ranks_nothing_is_an_error(bad):
    with pytest.raises(ValueError, match="heatmap"):
        from_heatmap(bad, PatchGrid(grid=2).cut(4, 4), evaluations=1)
