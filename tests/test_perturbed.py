"""Score-CAM and occlusion: against torchcam and captum, however their rows are batched."""

import numpy as np
import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from conftest import heats, sharpened
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import interpolate
from torch.testing import assert_close
from torchcam.methods import ScoreCAM

from pipeline import UsageError
from pipeline.game import Game, Outputs, drive
from pipeline.masking.black import Black
from pipeline.methods.gradcam import hooked
from pipeline.methods.occlusion import Occlusion
from pipeline.methods.readings import Readings
from pipeline.methods.scorecam import Channels, FeatureMaps, ScoreCam
from pipeline.models import Model
from pipeline.models.dual_encoder import DualEncoder
from pipeline.models.timm import TimmModel
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTHS = {"test_resnet": 96, "test_vit": 64}


@pytest.fixture(params=["test_resnet", "test_vit", "dual test_resnet", "dual test_vit"])
def tiny(request, tmp_path):
    """Small models of each kind."""
    dual, _, name = request.param.rpartition(" ")
    given = {"name": name, "weights": "random", "kwargs": {"num_classes": 0 if dual else 5}}
    if not dual:
        return sharpened(TimmModel(**given).load())
    rows_KD = torch.randn(5, WIDTHS[name], generator=torch.Generator().manual_seed(0))
    path = str(tmp_path / "prototypes.safetensors")
    save_file({"prototypes": rows_KD}, path)
    return DualEncoder(**given, prototypes=path, scale=10.0).load()


def images(model, n: int = 2) -> list[torch.Tensor]:
    size = model.preprocessing["input_size"]
    return list(torch.randn(n, *size, generator=torch.Generator().manual_seed(1)))


def scaled(map_HW: torch.Tensor) -> torch.Tensor:
    return (map_HW - map_HW.min()) / (map_HW.max() - map_HW.min())


def test_score_cam_is_torchcams(tiny):
    x, targets = images(tiny), [1, 3]
    found, engine = heats(tiny, ScoreCam(), x, targets)
    with torch.no_grad(), hooked(ScoreCAM, tiny) as cam:
        tiny.module(torch.stack(x))
        (maps_Bhw,) = cam(targets)
        channels = cam.hook_a[0].shape[1]
    expected = interpolate(maps_Bhw[:, None], tiny.input_hw, mode="bilinear")[:, 0]
    for heat_HW, expected_HW in zip(found, expected, strict=True):
        assert heat_HW.max() > heat_HW.min()
        assert_close(scaled(heat_HW), scaled(expected_HW), atol=1e-3, rtol=1e-3)
    assert engine.counters.forwards <= 2 * (1 + channels)


def test_score_cam_does_not_depend_on_batching(tiny):
    x, targets = images(tiny, 3), [1, 3, 0]
    one, _ = heats(tiny, ScoreCam(), x, targets)
    few, _ = heats(tiny, ScoreCam(), x, targets, tokens_per_batch=700)
    alone, _ = heats(tiny, ScoreCam(), x[1:2], targets[1:2])
    assert_close(torch.stack(one), torch.stack(few), atol=1e-5, rtol=1e-3)
    assert_close(one[1], alone[0], atol=1e-5, rtol=1e-3)


class Dots(nn.Module):
    """Channels are known: one constant, three that vary; logits are means of what is shown."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(3, 4, 4, stride=4, bias=False)
        with torch.no_grad():
            self.maps.weight.zero_()
            for channel in range(3):
                self.maps.weight[channel + 1, channel] = (channel + 1) / 16

    def forward(self, x_BCHW):
        return self.maps(x_BCHW).mean((2, 3))[:, 1:]


@pytest.fixture(scope="module")
def dots() -> Model:
    preprocessing = {"input_size": (3, 16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Model(module=Dots().requires_grad_(False), preprocessing=preprocessing, cam_layer="maps")


def test_score_cam_leaves_constant_channels_out_and_looks_at_those_that_vary_most(dots):
    (image_CHW,) = images(dots, 1)
    _, engine = heats(dots, ScoreCam(), [image_CHW], [0])
    assert engine.counters.forwards == 1 + 3
    (heat_HW,), engine = heats(dots, ScoreCam(forwards=1), [image_CHW], [0])
    assert engine.counters.forwards == 1 + 1
    maps_Dhw = dots.module.maps(image_CHW[None])[0]
    most = int(maps_Dhw.flatten(1).var(1).argmax())
    expected = interpolate(maps_Dhw[most].relu()[None, None], (16, 16), mode="bilinear")[0, 0]
    assert_close(heat_HW, expected)
    with pytest.raises(ValueError, match="every channel of the feature map is constant"):
        heats(dots, ScoreCam(), [torch.zeros(3, 16, 16)], [0])


def test_score_cam_weights_follow_what_is_read(dots):
    (image_CHW,) = images(dots, 1)
    maps_Dhw = dots.module.maps(image_CHW[None])[0, 1:]
    low, high = maps_Dhw.amin((1, 2), True), maps_Dhw.amax((1, 2), True)
    masks = interpolate(((maps_Dhw - low) / (high - low))[:, None], (16, 16), mode="bilinear")
    for read, of in (("logit", lambda y: y), ("probability", lambda y: y.softmax(1))):
        (heat_HW,), _ = heats(dots, ScoreCam(read=read), [image_CHW], [2])
        w_K = of(dots.module(image_CHW * masks))[:, 2].softmax(0)
        map_hw = (w_K[:, None, None] * maps_Dhw).sum(0).relu()
        expected = interpolate(map_hw[None, None], (16, 16), mode="bilinear")[0, 0]
        assert_close(heat_HW, expected)


@pytest.mark.parametrize("method", [ScoreCam(), Occlusion()], ids=str)
def test_batches_stay_within_the_budget_whatever_is_asked(tiny_model, method, monkeypatch):
    """Of 256 channels or 1,089 windows, never more images at once than fit."""
    launched, plain = [], Readings.launch

    def launch(self, model, pieces, spent):
        launched.append(sum(map(len, pieces)))
        return plain(self, model, pieces, spent)

    monkeypatch.setattr(Readings, "launch", launch)
    heats(tiny_model, method, images(tiny_model, 1), [0], tokens_per_batch=2000)
    assert max(launched) == 20 and sum(launched) > 200  # 100 tokens an image of 160 x 160 pixels


def game(model, image_CHW) -> Game:
    empty = torch.zeros(2, 1)
    return Game(
        n_players=16,
        key="key",
        ends=Outputs.of((0,), empty, empty, empty[:, 0]),
        view=View(image_CHW, model.preprocessing),
        regions_HW=PatchGrid(grid=4).cut(*model.input_hw),
    )


@pytest.mark.parametrize("method", [ScoreCam(), Occlusion(patch=4, stride=4)], ids=str)
def test_evaluations_are_the_forwards_that_were_spent(dots, method):
    (image_CHW,) = images(dots, 1)
    spent = []

    def answer(request):
        landed = request.program.launch(dots, [request.rows], spent.append)
        return request.program.answer(landed, [request.rows])[0]

    found = drive(method.explain(game(dots, image_CHW)), answer)
    assert found["insertion"].evaluations == sum(spent) <= method.most_forwards(16)
    assert found["insertion"] is found["deletion"]
    assert sorted(found["insertion"].order) == list(range(16))


def test_rows_of_channels_may_be_taken_apart():
    rows = Channels(torch.zeros(3, 2, 2), 0, torch.arange(10.0).view(10, 1, 1))
    assert rows.take(np.array([1, 3])).maps_Khw.flatten().tolist() == [1, 3]
    assert FeatureMaps() == FeatureMaps()


@pytest.mark.parametrize(("patch", "stride"), [(4, 4), (5, 3), (3, 1), (20, 20)])
def test_occlusion_is_captums(linear, patch, stride):
    x, targets = images(linear), [2, 1]
    method = Occlusion(patch=patch, stride=stride, read="logit")
    found, engine = heats(linear, method, x, targets)
    patch = min(patch, 12)
    expected = CaptumOcclusion(linear.module).attribute(
        torch.stack(x), (3, patch, patch), strides=(3, stride, stride), target=targets
    )
    assert_close(torch.stack(found), expected[:, 0], atol=1e-5, rtol=1e-4, check_dtype=False)
    assert engine.counters.forwards == 2 * method._taken(x[0])


def test_occlusion_of_a_linear_model_is_the_sum_of_what_is_hidden(linear):
    (image_CHW,) = images(linear, 1)
    method = Occlusion(patch=4, stride=4, read="logit", fill=Black())
    (heat_HW,), _ = heats(linear, method, [image_CHW], [1])
    weight_CHW = linear.module.weight_KP[1].view(3, 12, 12)
    share_HW = (weight_CHW * (image_CHW - linear.normalise(0.0))).sum(0)
    drop_hw = share_HW.unfold(0, 4, 4).unfold(1, 4, 4).sum((2, 3))
    assert_close(heat_HW, drop_hw.repeat_interleave(4, 0).repeat_interleave(4, 1))
    assert len(Occlusion().spans(224)) ** 2 == 1936


def test_occlusion_reads_probabilities_in_any_batch(linear):
    x, targets = images(linear, 3), [2, 1, 0]
    method = Occlusion(patch=5, stride=2)
    one, _ = heats(linear, method, x, targets)
    other, _ = heats(linear, method, x, targets, tokens_per_batch=7)
    assert_close(torch.stack(one), torch.stack(other))
    p = linear.logits(torch.stack([x[0], torch.zeros(3, 12, 12)])).softmax(1)[:, 2]
    (whole_HW,), _ = heats(linear, Occlusion(patch=12, stride=12), x[:1], [2])
    assert_close(whole_HW, (p[0] - p[1]).expand(12, 12))  # one window; ranks nothing


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: ScoreCam(forwards=0), r"scorecam\.forwards=0"),
        (lambda: ScoreCam(read="odds"), r"scorecam\.read='odds'"),
        (lambda: Occlusion(patch=0), r"occlusion\.patch=0"),
        (lambda: Occlusion(patch=4, stride=5), r"occlusion\.stride=5"),
        (lambda: Occlusion(fill=0), r"occlusion\.fill=0"),
        (lambda: Occlusion(read="odds"), r"occlusion\.read='odds'"),
        (
            lambda: next(Occlusion().heat(torch.zeros(3, 384, 384), 0)),
            r"occlusion\.forwards=2048: 384x384 pixels take 5777",
        ),
    ],
)
def test_settings_that_cannot_be_are_named(made, said):
    with pytest.raises(UsageError, match=said):
        made()
