import pytest
import torch
from conftest import logits, prepared

from pipeline import UsageError
from pipeline.masking.black import Black
from pipeline.masking.blur import Blur
from pipeline.masking.linear_imputation import LinearImputation
from pipeline.masking.mean import Mean
from pipeline.masking.zero import Zero
from pipeline.players import fractions
from pipeline.players.patch_grid import PatchGrid

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE = torch.randn(3, 160, 160, generator=torch.Generator().manual_seed(0))


def test_patches_are_numbered_row_by_row():
    regions_HW = PatchGrid(grid=4).cut(160, 160)
    assert regions_HW[0, 159] == 3
    assert regions_HW[159, 0] == 12
    assert regions_HW[45, 85] == 1 * 4 + 2
    assert fractions(regions_HW).tolist() == [1 / 16] * 16


def test_a_grid_that_does_not_divide_names_those_that_do():
    with pytest.raises(UsageError, match=r"players.grid=7 does not divide .*160x160.*use one of"):
        PatchGrid(grid=7).cut(160, 160)


@pytest.mark.parametrize("masking", [Zero(), Black(), Mean(), Blur()])
def test_hidden_pixels_show_the_fill_and_visible_ones_the_image(masking, tiny_model):
    seen = []
    first = tiny_model.module.conv_stem
    handle = first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    ready = prepared(tiny_model, masking, IMAGE, PatchGrid(grid=2).cut(160, 160))
    logits(tiny_model, masking, ready, torch.tensor([[True, False, False, True]]))
    handle.remove()
    fill_CHW = masking.fill(tiny_model, IMAGE).expand_as(IMAGE)
    (x_CHW,) = seen[0]
    assert torch.equal(x_CHW[:, :80, :80], IMAGE[:, :80, :80])
    assert torch.equal(x_CHW[:, 80:, 80:], IMAGE[:, 80:, 80:])
    assert torch.equal(x_CHW[:, :80, 80:], fill_CHW[:, :80, 80:])
    assert torch.equal(x_CHW[:, 80:, :80], fill_CHW[:, 80:, :80])


@pytest.mark.parametrize(
    "masking", [Zero(), Black(), Mean(), Blur(), LinearImputation(), LinearImputation(noise=0.0)]
)
def test_everything_visible_is_the_plain_forward(masking, tiny_model):
    ready = prepared(tiny_model, masking, IMAGE, PatchGrid(grid=2).cut(160, 160))
    seen_BK = logits(tiny_model, masking, ready, torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(seen_BK, tiny_model.logits(IMAGE[None]))


def test_fills_are_what_their_names_say(tiny_model):
    assert Zero().fill(tiny_model, IMAGE).abs().max() == 0
    raw = Black().fill(tiny_model, IMAGE)[:, 0, 0] * torch.tensor(
        tiny_model.preprocessing["std"]
    ) + torch.tensor(tiny_model.preprocessing["mean"])
    torch.testing.assert_close(raw, torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(Mean().fill(tiny_model, IMAGE)[:, 0, 0], IMAGE.mean((1, 2)))
    flat = torch.full((3, 160, 160), 0.7)
    torch.testing.assert_close(Blur().fill(tiny_model, flat), flat)
    with pytest.raises(UsageError, match="odd"):
        Blur(kernel=4)
