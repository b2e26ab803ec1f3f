"""A plan says what a run will spend: forwards to the last one, methods asked and not guessed."""

from dataclasses import dataclass

import pytest
import torch
from conftest import encode, moxi, write_tar
from PIL import Image

from pipeline import UsageError
from pipeline.data.shards import Shards
from pipeline.engine import Engine
from pipeline.judges.regions import Regions
from pipeline.masking.blur import Blur
from pipeline.masking.zero import Zero
from pipeline.methods.gradcam import GradCam
from pipeline.methods.moxi_minus import MoxiMinus
from pipeline.methods.random import Random
from pipeline.methods.saliency import Saliency
from pipeline.plan import plan
from pipeline.players.patch_grid import PatchGrid
from pipeline.studies.curves.work import CurvesWork

METHODS = {
    "search": moxi("insertion"),
    "prefix": moxi("deletion", stop="budget", budget=2),
    "single": MoxiMinus(),
    "heat": GradCam(aug_smooth=True),
    "chance": Random(),
}


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> str:
    pixels = torch.randint(0, 256, (2, 40, 60, 3), dtype=torch.uint8).numpy()
    members = {f"{k}.png": encode(Image.fromarray(pixels[k]), "PNG") for k in range(2)}
    broken = {"2.png": b"no image"}
    return str(write_tar(tmp_path_factory.mktemp("plan") / "x.tar", broken | members))


@pytest.mark.parametrize("curve_masking", [Zero(), Blur()], ids=["own", "other"])
def test_planned_forwards_are_those_spent(curve_masking, tiny_model, shard):
    work = CurvesWork(
        data=Shards(name="x", shards=shard),
        model=tiny_model,
        players=PatchGrid(grid=4),
        masking=Zero(),
        curve_masking=curve_masking,
        judge=Regions(),
        methods=METHODS,
        names={},
        fingerprints=dict.fromkeys(METHODS, "x"),
        order_fingerprints=dict.fromkeys(METHODS, "y"),
    )
    refs = list(work.data.index())[1:]  # the readable ones
    plans = {line.method: line for line in plan(work, refs, timed_images=2)}
    assert set(plans) == {*METHODS, "(end points)"}
    assert plans["search"].forwards - plans["chance"].forwards < 2 * 136
    assert all(line.images == 2 and line.device_hours >= 0 for line in plans.values())
    engine = Engine(tiny_model)
    tasks = [work.explain(work.read(ref, work.wanted, {}), work.wanted, {}) for ref in refs]
    rows = [row for found in engine.run(tasks, in_flight=2) for row in found]
    assert {row["status"] for row in rows} == {"ok"}
    assert sum(line.forwards for line in plans.values()) == engine.counters.forwards
    everything = list(work.data.index())
    whole = {line.method: line for line in plan(work, everything, timed_images=1)}
    assert whole["search"].forwards == plans["search"].forwards * 3 // 2  # of three images


@dataclass(frozen=True, kw_only=True)
class Hungry(Saliency):
    """Its batches take so many numbers more."""

    numbers: int = 1

    def heatmaps(self, model, images_BCHW, targets):
        more = torch.ones(self.numbers)
        return super().heatmaps(model, images_BCHW, targets) + more[0] * 0


def test_the_peak_is_what_a_method_s_batches_take(tiny_model, shard):
    methods = {"little": Hungry(), "much": Hungry(numbers=100_000_000), "after": Hungry()}
    work = CurvesWork(
        data=Shards(name="x", shards=shard),
        model=tiny_model,
        players=PatchGrid(grid=4),
        masking=Zero(),
        curve_masking=Zero(),
        judge=Regions(),
        methods=methods,
        names={},
        fingerprints=dict.fromkeys(methods, "x"),
        order_fingerprints=dict.fromkeys(methods, "y"),
    )
    plans = {line.method: line for line in plan(work, list(work.data.index()), timed_images=2)}
    least = plans["(end points)"].peak_bytes
    assert 0 < least < 350e6
    assert 400e6 < plans["much"].peak_bytes < 700e6
    assert all(least <= plans[name].peak_bytes < 350e6 for name in ("little", "after"))


def test_a_plan_without_an_image_is_refused(tiny_model, tmp_path):
    shard = str(write_tar(tmp_path / "x.tar", {"a.png": b"no image"}))
    work = CurvesWork(
        data=Shards(name="x", shards=shard),
        model=tiny_model,
        players=PatchGrid(grid=4),
        masking=Zero(),
        curve_masking=Zero(),
        judge=Regions(),
        methods={"chance": Random()},
        names={},
        fingerprints={"chance": "x"},
        order_fingerprints={"chance": "y"},
    )
    with pytest.raises(UsageError, match="none of 1 images can be read"):
        plan(work, list(work.data.index()), timed_images=1)
