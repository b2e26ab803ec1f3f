"""What judges measure, on curves, games and boxes whose answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import encode
from PIL import Image

from pipeline import UsageError
from pipeline.api import explain, judge
from pipeline.api.presets import preset
from pipeline.data import Sample
from pipeline.game import drive, toy
from pipeline.judges import heat, values
from pipeline.judges.areas import auc, mean_of_steps
from pipeline.judges.boxes import Boxes, visible
from pipeline.judges.mas import Mas, aligned
from pipeline.judges.monotonicity import Monotonicity
from pipeline.judges.mu_fidelity import MuFidelity
from pipeline.judges.pixel_steps import PixelSteps, cut
from pipeline.judges.regions import Regions
from pipeline.judges.sanity import Sanity, shuffled
from pipeline.judges.srg import Srg
from pipeline.maps import coarse, fine, packed, unpacked
from pipeline.masking.blur import Blur
from pipeline.methods import Attribution
from pipeline.methods.gradcam import GradCam
from pipeline.methods.heatmaps import from_heatmap
from pipeline.methods.random import Random
from pipeline.players import View, cells
from pipeline.players.patch_grid import PatchGrid

WEIGHTS = torch.tensor([0.5, -1.0, 2.0, 0.25])
ORDER = [2, 0, 3, 1]


def additive(coalitions_CN):
    return coalitions_CN.double() @ WEIGHTS.double()


def found(**more) -> Attribution:
    return Attribution(**({"order": ORDER, "evaluations": 0} | more))


def verdict(of, attribution=None, objective="insertion", value=additive):
    game, answer = toy(value, 4)
    return drive(of.judge(attribution or found(), objective, game), answer)


@pytest.mark.parametrize(
    ("points", "area", "expected"),
    [(224, auc, 0.0500), (10, auc, 0.0657), (196, None, 0.0475)],
    ids=["rise", "xplique", "moxi"],
)
def test_areas_are_those_of_published_tools(points, area, expected):
    x_G = np.linspace(0, 1, points + 1)
    y_G = np.exp(-20 * x_G)
    assert (mean_of_steps(y_G) if area is None else area(x_G, y_G)) == pytest.approx(
        expected, abs=5e-5
    )


def test_presets_are_what_their_papers_do():
    moxi, rise, smdl = (preset("judge", name) for name in ("moxi", "rise", "smdl_iclr"))
    assert (moxi.area, moxi.read, moxi.fixed_start) == ("mean", "top1", True)
    assert int(cut(torch.rand(224, 224), None, rise.pixels).max()) + 1 == 224
    assert (smdl.insertion_steps, smdl.deletion_steps) == (10, 10)
    steps_P = cut(torch.rand(20, 25), 10, None).flatten()
    assert steps_P.bincount().tolist() == [50] * 10


def test_a_value_is_the_area_of_what_is_read():
    shown = verdict(Regions())
    assert (shown["measure"], shown["value"]) == ("auc_probability", shown["auc_probability"])
    logs = verdict(Regions(read="log_odds"))
    assert logs["measure"] == "auc_log_odds"
    assert logs["value"] == pytest.approx(np.trapezoid([0, 2, 2.5, 2.75, 1.75], dx=0.25))
    assert verdict(Regions(read="logit"))["value"] == logs["value"]  # the game's logits
    top = verdict(Regions(read="top1", area="mean", fixed_start=True))
    assert (top["measure"], top["value"], top["top1"][0]) == ("mean_top1", 1.0, False)
    gone = verdict(Regions(read="top1", area="mean", fixed_start=True), objective="deletion")
    assert gone["top1"].tolist() == [True, False, False, False, False] and gone["value"] == 0


def test_least_important_first_reads_the_other_curve_backwards():
    """Inserting from the least important on shows what deleting from the most leaves."""
    up = verdict(Regions(first="least"))
    down = verdict(Regions(), objective="deletion")
    np.testing.assert_allclose(up["probability"], down["probability"][::-1])
    assert up["measure"] == "auc_probability_least_first"
    short = verdict(Regions(first="least"), found(order=[2]))
    assert len(short["fraction"]) == 5  # the players that nobody ranked come before


@pytest.mark.parametrize("objective", ["insertion", "deletion"])
def test_srg_is_the_difference_of_both_ways(objective):
    most, least = (
        verdict(Regions(first=first), objective=objective)["value"] for first in ("most", "least")
    )
    gain = verdict(Srg(), objective=objective)
    assert gain["value"] == pytest.approx(abs(most - least)) and gain["value"] > 0
    assert gain["auc_probability"] == most
    worst = verdict(Srg(), found(order=ORDER[::-1]), objective)
    assert worst["value"] == pytest.approx(-gain["value"])


def test_mu_fidelity_of_an_additive_game_is_one():
    small = MuFidelity(grid=None, subset=0.5, samples=20)
    value = lambda c: additive(c) / 100 - 1  # sigmoid is nearly straight here  # noqa: E731
    assert verdict(small, found(scores_N=WEIGHTS), value=value)["value"] == pytest.approx(1)
    assert verdict(small, found(scores_N=-WEIGHTS), value=value)["value"] == pytest.approx(-1)
    near = verdict(replace(small, correlation="pearson"), found(scores_N=WEIGHTS), value=value)
    assert 0.999 < near["value"] <= 1
    with pytest.raises(ValueError, match="worth the same"):
        verdict(small, found(scores_N=torch.ones(4)))


def test_magnitudes_that_follow_the_response_cost_nothing():
    response_G = np.array([0.1, 0.5, 0.7, 0.9])  # the ends map to 0 and 1
    held_G = (response_G - 0.1) / 0.8
    np.testing.assert_allclose(aligned(response_G, held_G, "insertion"), held_G)
    np.testing.assert_allclose(
        aligned(response_G[::-1], 1 - held_G[::-1], "deletion"), held_G[::-1]
    )
    off = aligned(response_G, np.array([0, 0, 0, 1.0]), "insertion")
    np.testing.assert_allclose(off, [0, 0, 0, 1])  # m - |m - 0| = 0
    with pytest.raises(ValueError, match="as probable"):
        aligned(np.full(4, 0.3), held_G, "insertion")
    assert 0 <= verdict(Mas(), found(scores_N=WEIGHTS))["value"] <= 1
    assert len(verdict(Mas(), found(order=[2]))["fraction"]) == 3


def test_monotonicity_counts_steps_that_move_as_they_should():
    assert verdict(Monotonicity())["value"] == 0.75  # player 1 takes away
    assert verdict(Monotonicity(), objective="deletion")["value"] == 0.75
    value = lambda c: c.double() @ WEIGHTS.abs().double()  # noqa: E731
    assert verdict(Monotonicity(), value=value)["value"] == 1


def test_kept_heat_survives_its_file():
    heat_HW = torch.rand(96, 64) * 1e-9  # gradients are small
    cells_hw = coarse(heat_HW)
    assert cells_hw.shape == (56, 56) and float(cells_hw.abs().max()) == 1
    torch.testing.assert_close(unpacked(packed(cells_hw)), cells_hw, rtol=0, atol=0)
    assert coarse(torch.rand(8, 100)).shape == (8, 56)
    assert fine(cells_hw, (96, 64)).shape == (96, 64)


def test_heat_is_the_method_s_or_that_of_its_players(tiny_model):
    regions_HW = PatchGrid(grid=2).cut(8, 8)
    game, _ = toy(additive, 4)
    game = replace(game, regions_HW=regions_HW)
    warm_HW = torch.arange(64.0).view(8, 8)
    seen = heat(from_heatmap(warm_HW, regions_HW, 1), game)
    torch.testing.assert_close(seen, warm_HW / 63, rtol=0, atol=1e-3)
    assert heat(found(scores_N=WEIGHTS), game).unique().tolist() == sorted(WEIGHTS.tolist())
    assert values(found(order=[2]), 4).tolist() == [0, 0, 4, 0]


def one(size=(40, 80), boxes=((20, 10, 40, 30),), field="boxes") -> Sample:
    height, width = size
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    said = json.dumps({field: boxes}).encode()
    encoded = encode(Image.fromarray(pixels), "PNG")
    return Sample(shard="s", key="k", encoded=encoded, label=1, members={"json": said})


PLAIN = {
    **{"input_size": (3, 20, 20), "mean": (0, 0, 0), "std": (1, 1, 1), "crop_pct": 1.0},
    **{"interpolation": "bicubic", "crop_mode": "center"},
}


def test_boxes_follow_the_image_through_resize_and_crop():
    """40 x 80 to 20 x 40, of which the middle 20 x 20: columns 20 to 60 of the photograph."""
    inside_HW = visible([(20, 10, 40, 30)], "xyxy", one(), PLAIN)
    expected_HW = torch.zeros(20, 20, dtype=torch.bool)
    expected_HW[5:15, 0:10] = True
    assert torch.equal(inside_HW, expected_HW)
    assert torch.equal(visible([(20, 10, 20, 20)], "xywh", one(), PLAIN), expected_HW)
    assert visible([(0, 0, 80, 40)], "xyxy", one(), PLAIN).all()
    with pytest.raises(ValueError, match="cut away"):
        visible([(0, 0, 10, 40)], "xyxy", one(), PLAIN)
    with pytest.raises(ValueError, match="no box"):
        visible([(30, 0, 10, 40)], "xyxy", one(), PLAIN)


def test_pointing_and_energy():
    regions_HW = PatchGrid(grid=2).cut(20, 20)  # the box: columns 0 to 9, rows 5 to 14
    game, _ = toy(additive, 4)
    game = replace(game, view=View(torch.zeros(3, 20, 20), PLAIN, one()), regions_HW=regions_HW)

    def measured(how: Boxes, attribution: Attribution) -> float:
        return drive(how.judge(attribution, "insertion", game), lambda ask: None)["value"]

    exact = Boxes(tolerance=0)
    hot_HW = torch.zeros(20, 20)
    hot_HW[7, 3] = 1
    assert measured(exact, from_heatmap(hot_HW, regions_HW, 1)) == 1
    assert measured(exact, from_heatmap(hot_HW.T, regions_HW, 1)) == 0
    assert measured(Boxes(tolerance=3), from_heatmap(hot_HW.T, regions_HW, 1)) == 1
    energy = Boxes(measure="energy")
    left = found(scores_N=torch.tensor([3.0, 1.0, 0.0, -5.0]))
    assert measured(energy, left) == pytest.approx(3 * 50 / (3 * 100 + 100))
    nowhere = replace(game, view=View(torch.zeros(3, 20, 20), PLAIN, one(field="other")))
    with pytest.raises(ValueError, match=r"no box in 'boxes'"):
        drive(energy.judge(left, "insertion", nowhere), lambda ask: None)


@pytest.mark.usefixtures("one_thread")
def test_pixel_steps_are_real_outputs_of_the_model(tiny_model):
    """Heat that is equal within quarters, four steps: the curve of these quarters as players."""
    x_BCHW = torch.randn(2, 3, *tiny_model.input_hw)
    quarters_HW = PatchGrid(grid=2).cut(*tiny_model.input_hw)
    maps_BHW = torch.tensor([[4.0, 1, 3, 2], [1, 2, 3, 4]])[:, quarters_HW]
    four = PixelSteps(insertion_steps=4, deletion_steps=4)
    by_pixels = judge(maps_BHW, tiny_model, x_BCHW, target=[1, 2], grid=4, by=four)
    by_region = judge(maps_BHW, tiny_model, x_BCHW, target=[1, 2], grid=2)
    for mine, theirs in zip(by_pixels.curves, by_region.curves, strict=True):
        for objective in ("insertion", "deletion"):
            got, expected = mine[objective], theirs[objective]
            np.testing.assert_allclose(got.log_odds, expected.log_odds, atol=2e-3)
            np.testing.assert_allclose(got.fraction, expected.fraction)
    blurred = replace(four, insertion_masking=Blur(sigma=2.0))
    other = judge(maps_BHW, tiny_model, x_BCHW, target=[1, 2], grid=4, by=blurred).curves[0]
    assert other["insertion"].curve_masking == "blur(sigma=2)"
    assert other["deletion"].curve_masking is None
    assert other["deletion"].value == pytest.approx(by_pixels.curves[0]["deletion"].value)
    assert other["insertion"].value != by_pixels.curves[0]["insertion"].value


@pytest.mark.usefixtures("one_thread")
def test_sanity_tells_methods_apart_that_do_not_look_at_the_model(tiny_model):
    x_BCHW = torch.randn(2, 3, *tiny_model.input_hw)
    blind = explain(tiny_model, x_BCHW, method=Random(), grid=4, by=Sanity())
    seeing = explain(tiny_model, x_BCHW, method=GradCam(), grid=4, by="sanity")
    for a, b in zip(blind.curves, seeing.curves, strict=True):
        assert a["insertion"].value == 1 and b["insertion"].value < 0.9
    other = shuffled(tiny_model, 0)
    assert other is shuffled(tiny_model, 0)
    pairs = zip(tiny_model.module.parameters(), other.module.parameters(), strict=True)
    moved = False
    for mine, theirs in pairs:
        torch.testing.assert_close(mine.flatten().sort()[0], theirs.flatten().sort()[0])
        moved |= not torch.equal(mine, theirs)
    assert moved


def test_cells_need_not_divide_the_image():
    assert cells(9, 224, 224).unique().numel() == 81
    assert cells(7, 3, 5).unique().numel() == 15


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Regions(first="last"), r"judge\.first"),
        (lambda: Regions(read="odds"), r"judge\.read"),
        (lambda: PixelSteps(), r"judge\.insertion_steps=None"),
        (lambda: PixelSteps(insertion_steps=3), r"judge\.deletion_steps=None"),
        (lambda: PixelSteps(insertion_steps=3, deletion_steps=3, pixels=1), r"judge\.pixels=1"),
        (lambda: MuFidelity(subset=1.0), r"judge\.subset=1"),
        (lambda: Boxes(form="yx"), r"judge\.form"),
    ],
)
def test_settings_that_are_none_are_named(wrong, said):
    with pytest.raises(UsageError, match=said):
        wrong()
