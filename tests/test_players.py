"""Players: every pixel has exactly one, and every player a pixel, however an image is cut."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import label as scipy_label

from pipeline import UsageError
from pipeline.api import explain
from pipeline.identity import name_of
from pipeline.methods.gradcam import GradCam
from pipeline.players import View, numbered
from pipeline.players.connected import connected
from pipeline.players.patch_grid import PatchGrid
from pipeline.players.png import packed, unpacked
from pipeline.players.saliency_groups import SaliencyGroups
from pipeline.players.seeds import Seeds
from pipeline.players.slico import Slico

PREPROCESSING = {"input_size": (3, 64, 96), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}


def view(height: int = 64, width: int = 96, seed: int = 0) -> View:
    """Soft blobs with noise on them: something to follow and something to be torn by."""
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    pixels_HWC = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    pixels_HWC = np.clip(pixels_HWC + rng.normal(0, 25, pixels_HWC.shape), 0, 255).astype(np.uint8)
    mean, std = (torch.tensor(PREPROCESSING[name]) for name in ("mean", "std"))
    image_CHW = ((torch.from_numpy(pixels_HWC) / 255 - mean) / std).permute(2, 0, 1)
    size = {"input_size": (3, height, width)}
    return View(image_CHW, PREPROCESSING | size)


def pieces(regions_HW: torch.Tensor) -> list[int]:
    """Of each region, by SciPy."""
    return [scipy_label(regions_HW.numpy() == r)[1] for r in range(int(regions_HW.max()) + 1)]


def check(regions_HW: torch.Tensor, height: int = 64, width: int = 96) -> int:
    """Every pixel has one of n players, every player a pixel; n."""
    assert regions_HW.shape == (height, width) and regions_HW.dtype == torch.int64
    players = regions_HW.unique()
    assert players.tolist() == list(range(len(players)))
    return len(players)


CUTS = [
    PatchGrid(grid=8),
    Slico(region_size=12),
    Slico(region_size=12, connected=True),
    Seeds(num_superpixels=40),
    Seeds(num_superpixels=40, connected=True),
]


@pytest.mark.parametrize("players", CUTS, ids=name_of)
def test_every_pixel_has_one_player_and_every_player_a_pixel(players):
    regions_HW = players(view())
    assert check(regions_HW) > 20
    assert torch.equal(regions_HW, players(view()))


def test_labels_are_numbered_in_their_order():
    assert numbered(torch.tensor([[7, 7], [2, 9]])).tolist() == [[1, 1], [0, 2]]


@pytest.mark.parametrize("players", [Slico(), Seeds()])
def test_superpixels_are_49_at_the_size_of_the_paper(players):
    assert check(players(view(224, 224)), 224, 224) == 49


def test_superpixels_are_those_of_the_authors_bgr():
    cv2 = pytest.importorskip("cv2")
    seen = view()
    bgr_HWC = cv2.cvtColor(seen.pixels_HWC, cv2.COLOR_RGB2BGR)
    slic = cv2.ximgproc.createSuperpixelSLIC(bgr_HWC, region_size=12, ruler=20.0)  # SLICO
    slic.iterate(20)
    assert np.array_equal(numbered(torch.from_numpy(slic.getLabels())), Slico(region_size=12)(seen))
    seeds = cv2.ximgproc.createSuperpixelSEEDS(96, 64, 3, num_superpixels=40, num_levels=3)
    seeds.iterate(bgr_HWC, 10)
    expected_HW = numbered(torch.from_numpy(seeds.getLabels()))
    assert np.array_equal(expected_HW, Seeds(num_superpixels=40)(seen))


@pytest.mark.parametrize("seed", range(3))
def test_connected_regions_are_as_many_and_in_one_piece(seed):
    torn_HW = Slico(region_size=12)(view(seed=seed))
    assert max(pieces(torn_HW)) > 1
    whole_HW = connected(torn_HW)
    assert set(pieces(whole_HW)) == {1}
    assert check(whole_HW) == check(torn_HW)
    assert torch.equal(connected(whole_HW), whole_HW)


def test_pieces_go_to_the_neighbour_with_the_longest_border():
    torn_HW = torch.tensor([[0, 0, 1, 1], [0, 2, 1, 1], [0, 0, 1, 0], [2, 2, 2, 2]])
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2]]
    assert connected(torn_HW).tolist() == expected


def test_pieces_within_pieces_go_with_them():
    torn_HW = torch.zeros(9, 16, dtype=torch.long)
    torn_HW[2:7, 2:7], torn_HW[:, 9:12] = 1, 1
    torn_HW[4, 4], torn_HW[:, 13:] = 2, 2  # in the middle of the smaller 1
    found_HW = connected(torn_HW)
    assert set(pieces(found_HW)) == {1}
    assert (found_HW[2:7, 2:7] == 0).all()
    one_HW = torch.zeros(3, 3, dtype=torch.long)
    assert torch.equal(connected(one_HW), one_HW)


def test_of_equal_pieces_the_first_stays():
    assert connected(torch.tensor([[0, 1, 0]])).tolist() == [[0, 1, 1]]


def groups(cells: int, size: int) -> SaliencyGroups:
    return SaliencyGroups(prior=GradCam(), cells=cells, size=size)


def test_cells_are_grouped_by_heat_the_hottest_first():
    heat_44 = torch.tensor(
        [[9, 9, 1, 1], [9, 9, 1, 1], [5, 5, 9, 9], [5, 5, 9, 9]], dtype=torch.float32
    )
    heat_HW = heat_44.repeat_interleave(16, 0).repeat_interleave(24, 1)
    pairs_HW = groups(2, 2)(view(), heat_HW)  # cells 9 1 / 5 9
    assert pairs_HW[::32, ::48].tolist() == [[0, 1], [1, 0]] and check(pairs_HW) == 2
    singles_HW = groups(2, 1)(view(), heat_HW)
    assert singles_HW[::32, ::48].tolist() == [[0, 3], [2, 1]]  # of equal cells the first


@pytest.mark.parametrize(("cells", "size"), [(10, 4), (28, 8), (7, 5), (3, 9), (64, 1)])
def test_groups_are_those_of_opencv_s_cells(cells, size):
    cv2 = pytest.importorskip("cv2")
    heat_HW = torch.rand(64, 96, generator=torch.Generator().manual_seed(0))
    found_HW = groups(cells, size)(view(), heat_HW)
    n = cells**2 // size
    assert check(found_HW) == n
    place_P = np.argsort(np.argsort(-cv2.resize(heat_HW.numpy(), (cells, cells)), axis=None))
    group_NN = np.minimum(place_P // size, n - 1).reshape(cells, cells).astype(np.uint16)
    whole_HW = cv2.resize(group_NN, (96, 64), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(found_HW, whole_HW)


def test_cells_left_over_join_the_last_group():
    heat_HW = torch.arange(64 * 96).view(64, 96).float()
    found_HW = groups(4, 3)(view(), heat_HW)  # 16 cells: 3 3 3 3 and 4
    assert found_HW.flatten().bincount().tolist() == [16 * 24 * size for size in (3, 3, 3, 3, 4)]


def test_heat_that_ranks_nothing_makes_no_groups():
    for heat_HW in (torch.ones(64, 96), torch.full((64, 96), torch.nan)):
        with pytest.raises(ValueError, match=r"players\.prior: the heat map is constant"):
            groups(4, 2)(view(), heat_HW)


@pytest.mark.parametrize("count", [1, 256, 257, 3000])
def test_regions_are_kept_as_a_picture(count):
    regions_HW = (torch.arange(64 * 96) % count).view(64, 96)
    assert torch.equal(unpacked(packed(regions_HW)), regions_HW)


def test_players_cut_by_heat_are_explained_from_python(tiny_model):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8))
    found = explain(tiny_model, [image, image.rotate(90)], players=groups(8, 16))
    plain = explain(tiny_model, image, method="gradcam", players=groups(8, 16))
    assert [check(torch.from_numpy(r), 160, 160) for r in found.regions] == [4, 4]
    assert sorted(found.order[0]) == [0, 1, 2, 3]
    assert not np.array_equal(*found.regions)
    np.testing.assert_array_equal(found.regions[0], plain.regions[0])
    assert [one["insertion"].evaluations for one in found.attributions] == [10 + 1] * 2
    assert plain.attributions[0]["insertion"].evaluations == 1 + 1
    assert plain.order[0] == [0, 1, 2, 3]  # by mean heat: the groups' own order


@pytest.mark.parametrize(
    ("players", "name"),
    [
        (Slico(), "slico30"),
        (Slico(region_size=15, ruler=40.0), "slico15(ruler=40)"),
        (Seeds(connected=True), "seeds50(connected=True)"),
        (groups(10, 4), "groups10x4(prior=grad_cam)"),
    ],
)
def test_rows_call_superpixels_what_they_are(players, name):
    assert name_of(players) == name


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Slico(region_size=0), r"players\.region_size=0: give a positive number"),
        (lambda: Slico(region_size=65)(view()), r"players\.region_size=65 .* 64x96"),
        (lambda: Seeds(num_levels=0), r"players\.num_levels=0"),
        (lambda: Seeds(smoothing=6), r"players\.smoothing=6"),
        (lambda: Seeds(num_superpixels=1537)(view()), "give at most 1536"),
        (lambda: groups(4, 17), r"players\.size=17: .* 1 to 16"),
        (lambda: groups(65, 1)(view()), r"players\.cells=65 .* 64x96"),
        (lambda: SaliencyGroups(prior=PatchGrid()), r"players\.prior: give a method"),
    ],
)
def test_settings_that_cannot_be_are_refused(made, said):
    with pytest.raises(UsageError, match=said):
        made()


def test_opencv_without_its_extra_modules_says_what_to_install(monkeypatch):
    for without in (SimpleNamespace(), None):
        monkeypatch.setitem(sys.modules, "cv2", without)
        with pytest.raises(UsageError, match=r"pip install .*opencv-contrib-python-headless"):
            Slico(region_size=12)(view())
