import pytest
import torch

from pipeline.methods import from_heatmap
from pipeline.methods.gradcam import GradCam
from pipeline.models import TimmModel
from pipeline.players.patch_grid import PatchGrid


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


def test_order_of_a_heatmap_is_by_region_means():
    regions_HW = PatchGrid(grid=2)(torch.zeros(3, 4, 4))
    heat_HW = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 9], [5, 5, 5, 5], [5, 5, 5, 5.0]])
    found = from_heatmap(heat_HW, regions_HW, evaluations=1)
    assert found.order == [1, 2, 3, 0]
    assert found.scores_N.tolist() == [0, 9, 5, 5]


@pytest.mark.parametrize("bad", [torch.ones(4, 4), torch.full((4, 4), torch.nan)])
def test_a_map_that_ranks_nothing_is_an_error(bad):
    with pytest.raises(ValueError, match="heatmap"):
        from_heatmap(bad, PatchGrid(grid=2)(torch.zeros(3, 4, 4)), evaluations=1)
