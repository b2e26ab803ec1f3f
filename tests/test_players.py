"""Players: every pixel has exactly one, and every player a pixel, however an image is cut."""

import io
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import encode, write_tar
from PIL import Image
from processes import job
from scipy.ndimage import label as scipy_label
from shown import held, images
from synthetic import seal

from jobs import aggregate, evaluate
from pipeline import UsageError
from pipeline.api import explain
from pipeline.build import provenance
from pipeline.data import Sample
from pipeline.data.shards import Shards
from pipeline.engine import Engine
from pipeline.identity import name_of
from pipeline.methods.gradcam import GradCam
from pipeline.models import transform
from pipeline.players import View, blank, numbered
from pipeline.players.connected import connected
from pipeline.players.label_maps import LabelMaps
from pipeline.players.masks import disjoint
from pipeline.players.patch_grid import PatchGrid
from pipeline.players.png import packed, unpacked
from pipeline.players.saliency_groups import SaliencyGroups
from pipeline.players.seeds import Seeds
from pipeline.players.segment_anything import SegmentAnything
from pipeline.players.slico import Slico
from pipeline.rows import RunDir
from pipeline.studies.curves.build import build
from pipeline.studies.curves.rows import CURVES

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
    for without in (SimpleNamespace(), SimpleNamespace(ximgproc=SimpleNamespace()), None):
        monkeypatch.setitem(sys.modules, "cv2", without)
        with pytest.raises(UsageError, match=r"pip install .*opencv-contrib-python-headless"):
            Slico(region_size=12)(view())


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def mapped(content: bytes, hw=(64, 96), exif: bool = False, **preprocessing) -> torch.Tensor:
    """Regions that a label map makes of an image of `hw` pixels."""
    photo = encode(Image.new("RGB", (hw[1], hw[0])), "PNG")
    sample = Sample(shard="s", key="k", encoded=photo, label=None, exif=exif)
    sample = replace(sample, members={"seg.png": content})
    seen = view()
    settings = {**PREPROCESSING, "crop_pct": 1.0, "crop_mode": "squash"} | preprocessing
    settings["input_size"] = (3, 64, 96)
    return LabelMaps(member="seg.PNG")(View(seen.image_CHW, settings, sample))


SQUARES_HW = PatchGrid(grid=16).cut(64, 96).numpy()  # 256 regions of 4 x 6 pixels
RGB_HWC = np.stack([SQUARES_HW % 3, SQUARES_HW // 3 % 3, SQUARES_HW // 9], 2).astype(np.uint8)


def palette() -> Image.Image:
    image = Image.fromarray(SQUARES_HW.astype(np.uint8), "L").copy()
    image.putpalette([0, 0, 0] * 256)  # what the colours are does not matter
    return image


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encode(Image.fromarray(SQUARES_HW.astype(np.uint8)), "PNG"), id="8 bit"),
        pytest.param(encode(Image.fromarray((SQUARES_HW * 200).astype(np.uint16)), "PNG"), id="16"),
        pytest.param(encode(palette(), "PNG"), id="palette"),
        pytest.param(npz(regions=SQUARES_HW - 7), id="regions"),
        pytest.param(npz(masks=np.arange(255)[:, None, None] == SQUARES_HW), id="masks"),
    ],
)
def test_label_maps_of_every_format_are_regions(content):
    assert np.array_equal(mapped(content), SQUARES_HW)


def test_every_colour_is_a_region():
    found_HW = mapped(encode(Image.fromarray(RGB_HWC), "PNG"))
    assert check(found_HW) == 256
    assert len(np.unique(np.stack([found_HW.numpy(), SQUARES_HW]).reshape(2, -1), axis=1).T) == 256


def test_maps_go_the_way_of_their_image():
    quarters_HW = np.zeros((128, 192), np.uint8)  # twice the model's size
    quarters_HW[:64, 96:], quarters_HW[64:, :96], quarters_HW[64:, 96:] = 1, 2, 3
    quarters_HW[:4] = 9  # cut away by the crop
    content = encode(Image.fromarray(quarters_HW), "PNG")
    whole_HW = mapped(content, (128, 192))
    assert check(whole_HW) == 5
    np.testing.assert_array_equal(whole_HW[2:], PatchGrid(grid=2).cut(64, 96)[2:])
    cropped_HW = mapped(content, (128, 192), crop_pct=0.5)
    np.testing.assert_array_equal(cropped_HW, PatchGrid(grid=2).cut(64, 96))


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_regions_lie_where_the_transform_puts_their_pixels(tiny_model, crop_mode):
    """An image of two colours and the map of these colours, cut by the same model."""
    two_HW = np.arange(150 * 200).reshape(150, 200) % 200 > 100
    photo = encode(Image.fromarray(two_HW.astype(np.uint8) * 255).convert("RGB"), "PNG")
    settings = tiny_model.preprocessing | {"crop_mode": crop_mode, "crop_pct": 0.9}
    image_CHW = transform(settings)(Image.open(io.BytesIO(photo)).convert("RGB"))
    sample = Sample(shard="s", key="k", encoded=photo, label=None, members={"seg.png": photo})
    seen = View(image_CHW, settings, sample)
    found_HW = LabelMaps(member="seg.png")(seen)
    assert check(found_HW, 160, 160) == (3 if crop_mode == "border" else 2)
    level_HW = seen.pixels_HWC[..., 0]
    for region in found_HW.unique().tolist():  # but for a pixel at the edge, each of one colour
        assert level_HW[found_HW == region].std() < 20
    white = int(found_HW.max())
    assert level_HW[found_HW == white].mean() > 245


def test_maps_of_images_that_are_turned_are_as_these_are():
    image = Image.fromarray(SQUARES_HW.T.astype(np.uint8))  # 96 x 64, turned to 64 x 96
    exif = image.getexif()
    exif[0x0112] = 6
    photo = encode(image.convert("RGB"), "PNG", exif=exif)
    content = encode(Image.fromarray(SQUARES_HW.astype(np.uint8)).resize((64 * 3, 96 * 3)), "PNG")
    sample = Sample(shard="s", key="k", encoded=photo, label=None, members={"seg.png": content})
    seen = View(view().image_CHW, PREPROCESSING, replace(sample, exif=True))
    with pytest.raises(ValueError, match="288x192 pixels, neither the image's own 64x96 nor"):
        LabelMaps(member="seg.png")(seen)
    with pytest.raises(ValueError, match="the image's own 96x64 nor the model's 64x96"):
        LabelMaps(member="seg.png")(View(seen.image_CHW, PREPROCESSING, sample))


def test_maps_of_the_model_s_size_are_taken_as_they_are():
    content = encode(Image.fromarray(SQUARES_HW.astype(np.uint8)), "PNG")
    assert np.array_equal(mapped(content, (128, 300), crop_pct=0.5), SQUARES_HW)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            encode(Image.new("L", (95, 64)), "PNG"),
            "64x95 .* the image's own 80x80 nor",
        ),
        (encode(Image.new("RGBA", (96, 64)), "PNG"), "mode RGBA"),
        (encode(Image.new("L", (96, 64)), "JPEG"), "seg.png is no label map"),
        (encode(Image.new("L", (96, 64)), "PNG")[:60], "seg.png is no label map"),
        (npz(regions=np.array([[None]])), "no label map: .*allow_pickle=False"),
        (npz(regions=np.zeros((64, 96))), "regions are float64"),
        (npz(masks=np.zeros((64, 96), bool)), r"masks are bool \(64, 96\)"),
        (npz(other=np.zeros(3)), "an .npz of other; give regions or masks"),
        (b"", "seg.png is no label map"),
    ],
)
def test_maps_that_are_none_say_why(content, said):
    with pytest.raises(ValueError, match=said):
        mapped(content, (80, 80))


def test_of_two_masks_that_overlap_the_smaller_keeps_its_pixels():
    masks_MHW = np.zeros((4, 50, 100), bool)
    masks_MHW[0, :, :50] = True  # a half, with
    masks_MHW[1, 10:20, 10:20] = True  # a hole in it
    masks_MHW[2, :, 40:60] = True  # a strip that is smaller than what the half has left
    masks_MHW[3, 0, :2] = True  # 0.0004 of the image: dropped, after it has taken its pixels
    expected_HW = np.full((50, 100), 3)
    expected_HW[:, :40], expected_HW[10:20, 10:20], expected_HW[:, 40:60] = 0, 1, 2
    expected_HW[0, :2] = 3
    np.testing.assert_array_equal(disjoint(masks_MHW), expected_HW)
    equal_MHW = np.zeros((2, 1, 4), bool)
    equal_MHW[0, :, :3], equal_MHW[1, :, 1:] = True, True
    assert disjoint(equal_MHW).tolist() == [[0, 1, 1, 1]]
    assert disjoint(np.zeros((0, 2, 2), bool)).tolist() == [[0, 0], [0, 0]]


def test_masks_that_overlap_anyhow_are_regions():
    rng = np.random.default_rng(0)
    for _ in range(20):
        masks_MHW = np.zeros((12, 30, 40), bool)
        for mask_HW in masks_MHW:
            (top, bottom), (left, right) = np.sort(rng.integers(0, 31, 2)), rng.integers(0, 41, 2)
            mask_HW[top:bottom, min(left, right) : max(left, right)] = True
        n = check(disjoint(masks_MHW), 30, 40)
        assert n <= 13


def test_a_map_in_the_tar_is_part_of_its_sample(tmp_path):
    photo = encode(Image.new("RGB", (96, 64)), "PNG")
    content = encode(Image.fromarray(SQUARES_HW.astype(np.uint8)), "PNG")
    members = {"a.png": content, "a.jpg": photo, "a.cls": b"3", "b.jpg": photo, "b.cls": b"3"}
    data = Shards(name="toy", shards=str(write_tar(tmp_path / "x.tar", members)))
    a, b = data.index()
    found = data.read(a, ("png",))
    assert found.encoded == photo and dict(found.members) == {"png": content} and found.label == 3
    assert data.read(b, ("png",)).members == {}
    assert data.read(b, ("png",)).content == data.read(b).content != found.content
    write_tar(tmp_path / "x.tar", members | {"a.png": content[:-1] + b"x"})
    assert data.read(next(iter(data.index())), ("png",)).content != found.content


def test_maps_lie_in_a_folder_or_are_missed(tmp_path):
    content = encode(Image.fromarray(SQUARES_HW.astype(np.uint8)), "PNG")
    (tmp_path / "maps" / "n01").mkdir(parents=True)
    (tmp_path / "maps" / "n01" / "x.png").write_bytes(content)
    (tmp_path / "maps" / "y.npz").write_bytes(npz(regions=SQUARES_HW))
    photo = encode(Image.new("RGB", (90, 90)), "PNG")
    players = LabelMaps(folder=f"{tmp_path}/maps/")
    for key in ("n01/x", "y", "z"):
        sample = Sample(shard="s", key=key, encoded=photo, label=None)
        seen = View(view().image_CHW, PREPROCESSING, sample)
        if key != "z":
            assert np.array_equal(players(seen), SQUARES_HW)
            continue
        with pytest.raises(ValueError, match=r"maps/z\.npz does not exist"):
            players(seen)
        with pytest.raises(ValueError, match=r"z has no member seg\.png \(players\.member\)"):
            LabelMaps(member="seg.png")(seen)


def test_label_maps_are_of_samples():
    assert check(LabelMaps(member="seg.png")(blank(PREPROCESSING))) == 49
    with pytest.raises(UsageError, match="label maps are of a data set's samples"):
        LabelMaps(member="seg.png")(view())
    for given in ({}, {"member": "a", "folder": "b"}):
        with pytest.raises(UsageError, match=r"players\.member .* or players\.folder"):
            LabelMaps(**given)
    for folder in ("/nowhere/at/all", "what://ever"):
        with pytest.raises(UsageError, match=r"players\.folder: "):
            LabelMaps(folder=folder)(blank(PREPROCESSING))


@pytest.fixture
def sam(monkeypatch):
    """Segment Anything without its network: the masks of whatever it is asked."""
    loaded = []

    class Generator:
        def __init__(self, network, **settings):
            loaded.append(settings)

        def generate(self, pixels_HWC):
            assert pixels_HWC.shape == (64, 96, 3) and pixels_HWC.dtype == np.uint8
            column_HW = np.arange(96) + np.zeros((64, 1))
            return [{"segmentation": mask_HW} for mask_HW in (column_HW < 60, column_HW >= 50)]

    registry = dict.fromkeys(("vit_b", "vit_h"), lambda: torch.nn.Linear(2, 2))
    package = SimpleNamespace(sam_model_registry=registry, SamAutomaticMaskGenerator=Generator)
    monkeypatch.setitem(sys.modules, "segment_anything", package)
    return loaded


def test_segment_anything_s_masks_are_players(sam, tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "sam.pth")
    players = SegmentAnything(checkpoint=str(tmp_path / "sam.pth"))
    assert check(players(blank(PREPROCESSING))) == 49
    for _ in range(2):
        assert players(view())[0].bincount().tolist() == [50, 46]  # the smaller keeps all it has
    assert sam == [{"stability_score_thresh": 0.8}]  # loaded once
    assert name_of(players) == "sam_vit_h"


def test_what_segment_anything_lacks_is_named(sam, tmp_path, monkeypatch):
    players = SegmentAnything(checkpoint=f"{tmp_path}/sam.pth", network="vit_b")
    for seen in (blank(PREPROCESSING), view()):
        with pytest.raises(UsageError, match=r"players\.checkpoint=.*sam\.pth: no such file"):
            players(seen)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "sam.pth")
    with pytest.raises(UsageError, match=r"sam\.pth holds no weights of vit_b"):
        players(view())
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(UsageError, match=r"pip install 'pixel-quorum\[segment-anything\]'"):
        players(blank(PREPROCESSING))


MODEL = (
    *("model=timm", "model.name=test_efficientnet", "model.weights=random"),
    *("+model.kwargs.num_classes=10", "tracking=disabled"),
)


def photograph(seed: int) -> bytes:
    return encode(Image.fromarray(view(160, 200, seed).pixels_HWC))


def drawn(page: str) -> list[dict]:
    """Everything over the photographs of a page."""
    return [item for image in images(page) for view in image["views"] for item in view["items"]]


def report(out) -> str:
    """The report of a run directory."""
    settings = aggregate.main.settings([f"out={out}", "tracking=disabled", "resamples=20"])
    aggregate.main.job(settings)
    return (out / "report" / "index.html").read_text()


def test_a_run_on_label_maps_of_any_number_of_regions(tmp_path, shared_ray):
    members = {}
    for seed, key in enumerate("abcd"):
        members[f"{key}.jpg"] = photograph(seed)
        stripes_HW = np.broadcast_to(np.arange(200) * (seed + 2) // 200, (160, 200))
        if key != "d":
            hw = stripes_HW[:90] if key == "c" else stripes_HW
            members[f"{key}.seg.png"] = encode(Image.fromarray(hw.astype(np.uint8)), "PNG")
    shard, out = write_tar(tmp_path / "x.tar", members), tmp_path / "run"
    job(
        *("evaluate", "dataset.name=maps", f"dataset.shards={shard}", f"out={out}", *MODEL),
        *("players=label_maps", "methods=[moxi_insertion,random_0]", "cluster.threads=1"),
        *("max_failed=1", "cluster.actors=1", shared_ray),
    )
    rows = {(r["key"], r["method"]): r for r in RunDir(str(out), CURVES).read().to_pylist()}
    assert rows["a", "moxi_insertion"]["n_players"] == 2
    assert rows["b", "moxi_insertion"]["n_players"] == 3
    assert rows["b", "moxi_insertion"]["evaluations"] == 6
    assert {row["players"] for row in rows.values()} == {"label_maps(member=seg.png)"}
    for key, said in (("c", "neither the image's own 160x200"), ("d", "d has no member seg.png")):
        assert (
            rows[key, "random_0"]["status"] == "failed" and said in rows[key, "random_0"]["error"]
        )
    page = report(out)
    assert "not drawn" not in page and page.count("data:image/webp") == 4
    assert len(held(page, "regions")) == 2 and len(drawn(page)) == 2 * (1 + 2)


def test_the_report_shows_players_cut_by_heat(tmp_path):
    members = {f"{key}.jpg": photograph(seed) for seed, key in enumerate("ab")}
    shard, out = write_tar(tmp_path / "x.tar", members), tmp_path / "run"
    settings = evaluate.main.settings(
        [
            *("dataset.name=heat", f"dataset.shards={shard}", f"out={out}", *MODEL),
            *("players=saliency_groups", "players.size=25", "methods=[gradcam]"),
        ]
    )
    work = build(settings)
    work.check()
    tasks = (
        work.explain(work.read(r, work.wanted, {}), work.wanted, {}) for r in work.data.index()
    )
    rows = [row for rows in Engine(work.model).run(tasks, in_flight=2) for row in rows]
    assert {row["players"] for row in rows} == {"groups10x25(prior=grad_cam)"}
    seal(out, (rows, provenance(settings, work)))
    page = report(out)
    assert "not drawn" not in page and len(held(page, "regions")) == 2
    assert [item["objective"] for item in drawn(page)] == ["insertion", "deletion"] * 2
