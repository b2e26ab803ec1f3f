"""Gradient methods on a linear model, where all is known, and against captum."""

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient as CaptumInputXGradient
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from captum.attr import NoiseTunnel
from captum.attr import Saliency as CaptumSaliency
from conftest import heats
from torch import nn
from torch.testing import assert_close

from pipeline import UsageError
from pipeline.masking.black import Black
from pipeline.methods import gradients
from pipeline.methods.gradients import Gradients
from pipeline.methods.input_x_gradient import InputXGradient
from pipeline.methods.integrated_gradients import IntegratedGradients
from pipeline.methods.readings import Places
from pipeline.methods.smoothgrad import SmoothGrad
from pipeline.models import Model

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = [
    InputXGradient(),
    InputXGradient(read="probability"),
    IntegratedGradients(forwards=70),
    IntegratedGradients(forwards=9, baseline=Black(), read="probability"),
    *(SmoothGrad(forwards=70, reduce=reduce) for reduce in ("mean", "square", "variance")),
]


@pytest.fixture(scope="module")
def curved() -> Model:
    """A smooth network of 12 x 12 pixels, five classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, stride=2), nn.Softplus(), nn.Conv2d(8, 8, 3), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(72, 5)),
        )
    preprocessing = {"input_size": (3, 12, 12), "mean": (0.4,) * 3, "std": (0.5,) * 3}
    return Model(module=net.requires_grad_(False).eval(), preprocessing=preprocessing)


@pytest.fixture(scope="module")
def images() -> list[torch.Tensor]:
    return list(torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(3)))


def probability(model: Model):
    return lambda x_BCHW: model.module(x_BCHW).softmax(1)


@pytest.mark.parametrize("baseline", [None, Black()], ids=str)
def test_integrated_gradients_of_a_linear_model_are_exact(linear, images, baseline):
    method = IntegratedGradients(forwards=3, **({"baseline": baseline} if baseline else {}))
    fill = 0.0 if baseline is None else linear.normalise(0.0)
    maps, _ = heats(linear, method, images, [0, 1, 2])
    for heat_HW, image_CHW, target in zip(maps, images, [0, 1, 2], strict=True):
        weight_CHW = linear.module.weight_KP[target].view(3, 12, 12)
        assert_close(heat_HW, (weight_CHW * (image_CHW - fill)).sum(0))


@pytest.mark.parametrize("read", ["logit", "probability"])
def test_integrated_gradients_add_up_to_the_difference(curved, images, read):
    method = IntegratedGradients(forwards=100, baseline=Black(), read=read)
    (heat_HW,), _ = heats(curved, method, images[:1], [2])
    read_out = curved.module if read == "logit" else probability(curved)
    ends_BCHW = torch.stack([images[0], curved.normalise(0.0).expand(3, 12, 12)])
    with torch.no_grad():
        there, nowhere = read_out(ends_BCHW)[:, 2]
    assert float(heat_HW.sum()) == pytest.approx(float(there - nowhere), rel=1e-3)


@pytest.mark.parametrize("read", ["logit", "probability"])
def test_as_captum_says(curved, images, read):
    read_out = curved.module if read == "logit" else probability(curved)
    x_BCHW, targets = torch.stack(images), [0, 1, 2]
    plain = CaptumInputXGradient(read_out).attribute(x_BCHW.clone(), target=targets)
    found, _ = heats(curved, InputXGradient(read=read), images, targets)
    assert_close(torch.stack(found), plain.sum(1).detach())
    steps = CaptumIntegratedGradients(read_out).attribute(
        x_BCHW, target=targets, n_steps=20, method="riemann_middle"
    )
    found, _ = heats(curved, IntegratedGradients(forwards=20, read=read), images, targets)
    assert_close(torch.stack(found), steps.sum(1).float(), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("reduce", "known"),
    [("mean", "smoothgrad"), ("square", "smoothgrad_sq"), ("variance", "vargrad")],
)
def test_smoothgrad_has_the_statistics_of_captums(curved, images, reduce, known):
    """Different noise: equal up to what 2,000 copies leave."""
    image_CHW = images[0]
    spread = 0.15 * float(image_CHW.max() - image_CHW.min())
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = NoiseTunnel(CaptumSaliency(curved.module)).attribute(
            image_CHW[None].clone(), known, 2000, stdevs=spread, target=1, abs=False
        )
    (heat_HW,), _ = heats(curved, SmoothGrad(forwards=2000, reduce=reduce), [image_CHW], [1])
    expected_HW = other[0].abs().amax(0)
    assert np.corrcoef(heat_HW.flatten(), expected_HW.flatten())[0, 1] > 0.99
    assert float(heat_HW.sum()) == pytest.approx(float(expected_HW.sum()), rel=0.02)


def test_smoothgrad_of_a_linear_model_is_its_gradient(linear, images):
    weight_CHW = linear.module.weight_KP[1].view(3, 12, 12)
    (mean_HW,), _ = heats(linear, SmoothGrad(forwards=5), images[:1], [1])
    (square_HW,), _ = heats(linear, SmoothGrad(forwards=5, reduce="square"), images[:1], [1])
    assert_close(mean_HW, weight_CHW.abs().amax(0))
    assert_close(square_HW, weight_CHW.square().amax(0))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_maps_do_not_depend_on_how_points_are_batched(curved, images, method):
    one, engine = heats(curved, method, images, [0, 1, 2])
    assert engine.counters.forwards == 3 * method.most_forwards(9)
    other, _ = heats(curved, method, images, [0, 1, 2], tokens_per_batch=17)
    alone, _ = heats(curved, method, images[:1], [0])
    assert_close(torch.stack(one), torch.stack(other))
    assert_close(one[0], alone[0])


def test_noise_belongs_to_seed_and_image(curved, images):
    def points(method, image_CHW, places):
        return method.points(curved, Places(image_CHW, 0, np.array(places)))

    method, image_CHW = SmoothGrad(noise=0.2), torch.zeros(3, 12, 12)
    image_CHW[0, 0, 0] = 10.0
    noise_BCHW = points(method, image_CHW, range(50)) - image_CHW
    assert float(noise_BCHW.std()) == pytest.approx(0.2 * 10, rel=0.05)
    assert_close(points(method, image_CHW, [7, 3]) - image_CHW, noise_BCHW[[7, 3]])
    assert not torch.allclose(noise_BCHW[0], noise_BCHW[1])
    assert not torch.allclose(
        points(SmoothGrad(seed=1), images[0], [0]), points(SmoothGrad(), images[0], [0])
    )
    other_CHW = image_CHW.flip(0)  # the same range
    assert not torch.allclose(points(method, other_CHW, [0]) - other_CHW, noise_BCHW[:1])


def test_no_batch_is_larger_than_the_budget(curved, images):
    asked = []

    class Watched(Gradients):
        def launch(self, model, pieces, spent):
            asked.append(sum(map(len, pieces)))
            return super().launch(model, pieces, spent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "Gradients", Watched)
        heats(curved, IntegratedGradients(), images, [0, 1, 2], tokens_per_batch=30)
    assert max(asked) == 10 and sum(asked) == 3 * 80  # three tokens a row


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: SmoothGrad(forwards=0), r"smoothgrad\.forwards=0"),
        (lambda: SmoothGrad(noise=0.0), r"smoothgrad\.noise=0"),
        (lambda: SmoothGrad(reduce="max"), r"smoothgrad\.reduce='max'"),
        (lambda: SmoothGrad(reduce="variance", forwards=1), r"smoothgrad\.forwards=1"),
        (lambda: SmoothGrad(read="odds"), r"smoothgrad\.read='odds'"),
        (lambda: IntegratedGradients(forwards=0), r"integrated_gradients\.forwards=0"),
        (lambda: IntegratedGradients(baseline=0), r"integrated_gradients\.baseline=0"),
        (lambda: IntegratedGradients(read="odds"), r"integrated_gradients\.read='odds'"),
        (lambda: InputXGradient(read="odds"), r"input_x_gradient\.read='odds'"),
    ],
)
def test_settings_that_cannot_be_are_named(made, said):
    with pytest.raises(UsageError, match=said):
        made()
