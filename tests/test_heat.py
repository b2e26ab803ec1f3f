"""Every method of conf that draws a heat map, through the engine, on each kind of model."""

import pytest
import torch
import yaml
from conftest import heats, sharpened
from safetensors.torch import save_file
from torch import nn

from pipeline import build
from pipeline.config import CONF
from pipeline.game import Game, Outputs, drive
from pipeline.models import Model
from pipeline.models.dual_encoder import DualEncoder
from pipeline.models.timm import TimmModel
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid

pytestmark = pytest.mark.usefixtures("one_thread")

FEWER = {"rise": 40, "rise_1000": 40, "smoothgrad": 4, "squaregrad": 4, "vargrad": 4}
FEWER |= {"integrated_gradients": 4, "scorecam": 20}
ATTENTION = ("rollout", "chefer")
BLIND = ("center_gaussian",)
NAMES = (
    *("saliency", "input_x_gradient", "smoothgrad", "squaregrad", "vargrad"),
    *("integrated_gradients", "gradcam", "gradcam_moxi", "gradcam_pp", "layercam", "xgradcam"),
    *("hirescam", "eigencam", "scorecam", "rise", "occlusion", *ATTENTION, *BLIND),
)
WIDTHS = {"test_efficientnet": 256, "test_vit": 64}


def method(name: str):
    node = yaml.safe_load((CONF / "methods" / f"{name}.yaml").read_text())
    if name in FEWER:
        node[name]["forwards"] = FEWER[name]
    if name == "occlusion":
        node[name] |= {"patch": 40, "stride": 40}
    return build.methods({"methods": node})[name]


@pytest.fixture(scope="module", params=["test_efficientnet", "test_vit", "dual test_vit"])
def model(request, tmp_path_factory):
    dual, _, name = request.param.rpartition(" ")
    given = {"name": name, "weights": "random", "kwargs": {"num_classes": 0 if dual else 5}}
    if not dual:
        model = TimmModel(**given).load()
        return sharpened(model) if name == "test_vit" else model
    path = str(tmp_path_factory.mktemp("dual") / "prototypes.safetensors")
    rows_KD = torch.randn(5, WIDTHS[name], generator=torch.Generator().manual_seed(0))
    save_file({"prototypes": rows_KD}, path)
    return sharpened(DualEncoder(**given, prototypes=path, scale=10.0).load())


@pytest.mark.parametrize("name", NAMES)
def test_maps_rank_whatever_they_share_their_batch_with(name, model):
    if name in ATTENTION and model.name.startswith("test_efficientnet"):
        pytest.skip("there is no attention to follow")
    size = model.preprocessing["input_size"]
    images = list(torch.randn(2, *size, generator=torch.Generator().manual_seed(5)))
    found, engine = heats(model, method(name), images, [1, 3])
    again, _ = heats(model, method(name), images[1:], [3], tokens_per_batch=600)
    for heat_HW in found:
        assert heat_HW.shape == model.input_hw and heat_HW.isfinite().all()
        assert heat_HW.max() > heat_HW.min()
    largest = float(found[1].abs().max())
    torch.testing.assert_close(found[1], again[0], atol=2e-3 * largest, rtol=2e-3)
    assert engine.counters.forwards <= 2 * method(name).most_forwards(49)


class Indifferent(nn.Module):
    """Says the same of every image: its gradients are zero, its feature map is not."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 4, stride=4, bias=False)

    def forward(self, x_BCHW):
        return 0 * self.maps(x_BCHW).mean((2, 3)) + torch.tensor([1.0, 2.0])


@pytest.mark.parametrize("name", [n for n in NAMES if n not in (*ATTENTION, *BLIND)])
def test_a_map_that_ranks_nothing_is_an_error(name):
    """Of a model that sees nothing, or of an image with nothing to see."""
    if name in ("rise", "scorecam", "eigencam"):
        pytest.skip("a sum of masks or of channels is never constant")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Indifferent().requires_grad_(False)
    preprocessing = {"input_size": (3, 48, 48), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    model = Model(module=module, preprocessing=preprocessing, cam_layer="maps")
    image_CHW = torch.randn(3, 48, 48, generator=torch.Generator().manual_seed(2))
    nothing = torch.zeros(2, 1)
    game = Game(
        n_players=4,
        key="key",
        ends=Outputs.of((1,), nothing, nothing, nothing[:, 0]),
        view=View(image_CHW, preprocessing),
        regions_HW=PatchGrid(grid=2).cut(48, 48),
    )

    def answer(request):
        landed = request.program.launch(model, [request.rows], lambda forwards: None)
        return request.program.answer(landed, [request.rows])[0]

    with pytest.raises(ValueError, match="heatmap is constant"):
        drive(method(name).explain(game), answer)
