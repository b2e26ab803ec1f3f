"""Noisy linear imputation: the same pixels as a direct solver's, whatever is hidden."""

import numpy as np
import pytest
import torch
from conftest import logits, prepared
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from pipeline import UsageError
from pipeline.masking import Shown
from pipeline.masking.linear_imputation import LinearImputation
from pipeline.masking.multigrid import filled
from pipeline.players.patch_grid import PatchGrid

pytestmark = pytest.mark.usefixtures("one_thread")


def solved(x_CHW, hidden_HW):
    """The system as the paper states it, solved directly."""
    pixels_CHW, hidden = x_CHW.double().numpy().copy(), hidden_HW.numpy()
    height, width = hidden.shape
    places = {place: i for i, place in enumerate(zip(*np.nonzero(hidden), strict=True))}
    entries, right_PC = [], np.zeros((len(places), len(pixels_CHW)))
    for (y, x), i in places.items():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near = (y + dy, x + dx)
                if (dy, dx) == (0, 0) or not (0 <= near[0] < height and 0 <= near[1] < width):
                    continue
                weight = 1 / 12 if dy and dx else 1 / 6
                entries.append((i, i, weight))
                if near in places:
                    entries.append((i, places[near], -weight))
                else:
                    right_PC[i] += weight * pixels_CHW[:, *near]
    rows, columns, values = zip(*entries, strict=True)
    matrix = coo_matrix((values, (rows, columns)), shape=(len(places),) * 2).tocsc()
    pixels_CHW[:, hidden] = spsolve(matrix, right_PC).reshape(right_PC.shape).T
    return torch.tensor(pixels_CHW)


def image(*sides):
    """Smooth, with an edge, -1 to 1."""
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(1, 3, 5, 5, generator=generator)
    x_CHW = torch.nn.functional.interpolate(low, size=sides, mode="bicubic")[0].clamp(0, 1)
    x_CHW[:, sides[0] // 3 :] *= 0.5
    return 2 * x_CHW - 1


def masks(height, width):
    rng = torch.Generator().manual_seed(1)
    for share in (0.1, 0.5, 0.9, 0.99):
        yield torch.rand(height, width, generator=rng) < share
    for cells, share in ((4, 0.5), (4, 0.9), (8, 0.1), (8, 0.5), (8, 0.9)):
        hidden = (torch.rand(cells, cells, generator=rng) < share).float()
        yield torch.nn.functional.interpolate(hidden[None, None], size=(height, width))[0, 0] > 0
    one = torch.ones(height, width, dtype=torch.bool)
    one[height // 3, width // 5] = False  # all but one pixel
    yield one
    yield torch.zeros(height, width, dtype=torch.bool)


@pytest.mark.parametrize("sides", [(64, 64), (57, 46), (9, 7), (20, 64)])
def test_filled_is_what_a_direct_solver_finds(sides):
    x_CHW, hidden_BHW = image(*sides), torch.stack(list(masks(*sides)))
    found_BCHW = filled(x_CHW.expand(len(hidden_BHW), -1, -1, -1), hidden_BHW, 2.0)
    for found_CHW, hidden_HW in zip(found_BCHW, hidden_BHW, strict=True):
        if hidden_HW.all() or not hidden_HW.any():
            continue
        far = (found_CHW.double() - solved(x_CHW, hidden_HW)).abs()
        assert far.max() < 1e-4
        assert torch.equal(found_CHW[:, ~hidden_HW], x_CHW[:, ~hidden_HW])
    assert torch.equal(found_BCHW[-1], x_CHW)


def test_everything_hidden_is_zero_and_a_row_does_not_depend_on_the_others():
    x_CHW, hidden_BHW = image(48, 48), torch.stack(list(masks(48, 48)))
    hidden_BHW[0] = True
    found_BCHW = filled(x_CHW.expand(len(hidden_BHW), -1, -1, -1), hidden_BHW)
    assert found_BCHW[0].abs().max() == 0
    for found_CHW, hidden_HW in zip(found_BCHW, hidden_BHW, strict=True):
        assert torch.equal(found_CHW, filled(x_CHW[None], hidden_HW[None])[0])


def test_noise_is_that_of_raw_pixels_on_hidden_ones_and_equal_rows_are_equal(tiny_model):
    x_CHW, regions_HW = image(160, 160), PatchGrid(grid=4).cut(160, 160)
    visible_CN = torch.zeros(3, 16, dtype=torch.bool)
    visible_CN[:2, 5] = True
    ready = prepared(tiny_model, LinearImputation(), x_CHW, regions_HW)
    shown_CCHW = LinearImputation().compose(tiny_model, [Shown(ready, visible_CN)])
    assert torch.equal(shown_CCHW[0], shown_CCHW[1])
    assert torch.equal(shown_CCHW[0][:, regions_HW == 5], x_CHW[:, regions_HW == 5])
    plain_CCHW = LinearImputation(noise=0.0).compose(tiny_model, [Shown(ready, visible_CN)])
    noise_CHW = (shown_CCHW - plain_CCHW)[0][:, regions_HW != 5]
    std = torch.tensor(tiny_model.preprocessing["std"])
    torch.testing.assert_close(noise_CHW.std(1) * std, torch.full((3,), 0.01), rtol=0.03, atol=0)
    assert plain_CCHW[2].abs().max() == 0
    other_CCHW = LinearImputation(seed=1).compose(tiny_model, [Shown(ready, visible_CN)])
    assert not torch.equal(other_CCHW, shown_CCHW)


def test_images_share_batches(tiny_model):
    regions_HW = PatchGrid(grid=2).cut(160, 160)
    masking, coalitions_CN = LinearImputation(), torch.tensor([[True, False, False, True]] * 2)
    both = [prepared(tiny_model, masking, f * image(160, 160), regions_HW) for f in (1.0, 0.5)]
    with torch.inference_mode():
        parts = [Shown(ready, coalitions_CN) for ready in both]
        together_BK = tiny_model.classify(masking.encode(tiny_model, parts))
        for i, ready in enumerate(both):
            alone_CK = logits(tiny_model, masking, ready, coalitions_CN)
            torch.testing.assert_close(together_BK[2 * i : 2 * i + 2], alone_CK)


def test_noise_below_zero_is_refused():
    with pytest.raises(UsageError, match=r"masking\.noise=-1"):
        LinearImputation(noise=-1.0)
