"""One image's games in process: what is asked of the model, what fails, players cut by heat."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import encode, moxi
from PIL import Image

from pipeline.data import Sample
from pipeline.engine import Engine, Reply
from pipeline.game import Coalitions, Elsewhere, Outputs
from pipeline.game.arena import Arena
from pipeline.judges.regions import Regions
from pipeline.masking.blur import Blur
from pipeline.masking.pixels import PixelMasking
from pipeline.masking.token_drop import TokenDrop
from pipeline.masking.zero import Zero
from pipeline.methods.gradcam import GradCam
from pipeline.methods.random import Random
from pipeline.models.timm import TimmModel
from pipeline.players import View, blank
from pipeline.players.patch_grid import PatchGrid
from pipeline.players.png import packed, unpacked
from pipeline.studies.curves.work import CurvesWork

pytestmark = pytest.mark.usefixtures("one_thread")
SEARCHES = {"moxi_insertion": moxi("insertion"), "moxi_deletion": moxi("deletion")}
CONTROL = {"random": Random()}


def sample(label: int | None = 3, key: str = "k") -> Sample:
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    image = Image.fromarray(pixels_HWC).resize((160, 160), Image.Resampling.BICUBIC)
    return Sample(shard="s", key=key, encoded=encode(image, "PNG"), label=label)


def work(model, **changes) -> CurvesWork:
    """Rows of a toy data set, whose references are its samples."""
    settings = {
        "players": PatchGrid(grid=2),
        "masking": Zero(),
        "curve_masking": Zero(),
        "methods": SEARCHES | CONTROL,
    } | changes
    prints = {name: name for name in settings["methods"]}
    return CurvesWork(
        data=SimpleNamespace(name="toy", exif=False, read=lambda sample, *_: sample),  # type: ignore
        model=model,
        judge=Regions(),
        names={},
        fingerprints=prints,
        order_fingerprints=prints,
        **settings,
    )


def rows_of(work: CurvesWork, sample: Sample, known=None) -> tuple[dict, int]:
    """One image's rows by method and objective, and the forwards that they took."""
    known = known or {}
    engine = Engine(work.model)
    ready = work.read(sample, work.wanted, known)  # type: ignore[arg-type]
    (rows,) = engine.run([work.explain(ready, work.wanted, known)], in_flight=1)
    return {(row["method"], row["objective"]): row for row in rows}, engine.counters.forwards


def test_the_full_coalition_is_evaluated_once_whatever_the_maskings(tiny_model, monkeypatch):
    asked = []

    def encode(self, model, parts, real=PixelMasking.encode):
        asked.extend((type(self), tuple(row)) for _, c in parts for row in c.tolist())
        return real(self, model, parts)

    monkeypatch.setattr(PixelMasking, "encode", encode)
    two = work(tiny_model, curve_masking=Blur(), methods=CONTROL)
    rows, forwards = rows_of(two, sample())
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert [kind for kind, row in asked if all(row)] == [Zero]
    assert [kind for kind, row in asked if not any(row)] == [Zero, Blur]
    assert forwards == 1 + 2 + 2 * 3 == two.forwards(two.wanted, {})
    (one_only,) = rows_of(work(tiny_model, methods=CONTROL), sample())[1:]
    assert one_only == 1 + 1 + 2 * 3


def test_what_is_planned_is_what_is_spent(tiny_model):
    for curve_masking, judged in ((Zero(), 2 * 3), (Blur(), 1 + 4 * 3)):
        all_rows = work(tiny_model, curve_masking=curve_masking)
        rows, forwards = rows_of(all_rows, sample())
        assert forwards == 2 + 2 * 10 + judged == all_rows.forwards(all_rows.wanted, {})
        assert sum(row["evaluations"] for row in rows.values()) == 2 * 10


def test_an_order_is_judged_under_another_masking_without_a_search(tiny_model):
    known, _ = rows_of(work(tiny_model), sample())
    blurred = work(tiny_model, curve_masking=Blur())
    again, forwards = rows_of(blurred, sample(), known)
    assert forwards == 2 + 4 * 3 == blurred.forwards(blurred.wanted, known)  # no search
    anew, _ = rows_of(blurred, sample())
    assert again.keys() == anew.keys()
    for place, row in anew.items():
        assert row["status"] == again[place]["status"] == "ok"
        for column in row.keys() - {"seconds"}:
            np.testing.assert_array_equal(row[column], again[place][column], err_msg=column)


@pytest.mark.parametrize("target", [0, 7, "label"])
def test_curves_are_of_the_class_explained_whatever_is_predicted(tiny_model, target):
    image = sample()
    rows, _ = rows_of(work(tiny_model, target=target), image)
    _, image_CHW = work(tiny_model).image(image)  # type: ignore[arg-type]
    with torch.inference_mode():
        p_K = tiny_model.module(image_CHW[None])[0].softmax(0)
        empty_K = tiny_model.module(torch.zeros_like(image_CHW)[None])[0].softmax(0)
    explained = image.label if target == "label" else target
    for (_, objective), row in rows.items():
        assert row["target"] == explained and row["prediction"] == int(p_K.argmax())
        first, last = (empty_K, p_K) if objective == "insertion" else (p_K, empty_K)
        ends = [float(first[explained]), float(last[explained])]
        np.testing.assert_allclose(row["probability"][[0, -1]], ends, rtol=1e-4)
        assert row["top1"][[0, -1]].tolist() == [
            int(x.argmax()) == explained for x in (first, last)
        ]


def test_a_coroutine_s_bill_is_that_of_all_its_questions(tiny_model):
    arena = Arena(tiny_model, blank(tiny_model.preprocessing), torch.zeros(160, 160).long(), "")
    list(Engine(tiny_model).run([arena.prepare(Zero())], in_flight=1))

    def coroutine():
        everyone = Coalitions(torch.ones(1, 1, dtype=torch.bool))
        return [(yield everyone), (yield everyone)]

    play = arena.play(coroutine(), Zero())
    next(play)
    play.send(Reply("one", 1.0, 4))
    with pytest.raises(StopIteration) as stop:
        play.send(Reply("two", 2.0, 8))
    assert stop.value.value == (["one", "two"], (3.0, 12))


def test_a_class_that_the_model_lacks_is_a_failed_row(tiny_model):
    for target, label in ((10, 3), ("label", 12)):
        rows, forwards = rows_of(work(tiny_model, target=target), sample(label))
        assert forwards == 1 and len(rows) == 4
        for row in rows.values():
            assert row["status"] == "failed"
            assert f"class {max(10, label)} is not one of the model's 10" in row["error"]
            assert 0 <= row["prediction"] < 10 and row["label"] == label


def test_a_label_that_is_missing_leaves_the_prediction(tiny_model):
    plain, _ = rows_of(work(tiny_model), sample(None))
    rows, _ = rows_of(work(tiny_model, target="label"), sample(None))
    for place, row in rows.items():
        assert row["status"] == "failed" and "no label" in row["error"]
        assert row["prediction"] == plain[place]["prediction"] == plain[place]["target"]
        assert row["label"] is None and plain[place]["status"] == "ok"


def test_a_method_that_fails_fails_alone(tiny_model):
    class Broken(Random):
        def explain(self, game):
            yield Coalitions(torch.zeros(1, game.n_players, dtype=torch.bool))
            raise RuntimeError("no order")

    rows, _ = rows_of(work(tiny_model, methods=CONTROL | {"broken": Broken()}), sample())
    assert [row["status"] for row in rows.values()] == ["ok", "ok", "failed", "failed"]
    assert rows["broken", "deletion"]["error"] == "RuntimeError: no order"


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """Players of one's own: as many pixels each, from the coldest to the hottest."""

    version: ClassVar[int] = 1
    groups: int = 5
    prior: GradCam = field(default_factory=GradCam)

    def __call__(self, view, heat_HW=None):
        place_P = heat_HW.flatten().argsort(stable=True).argsort()
        return (place_P * self.groups // len(place_P)).view(heat_HW.shape)


def test_players_may_be_cut_by_the_heat_of_a_method(tiny_model):
    groups = work(tiny_model, players=Quantiles(), methods=CONTROL | {"gradcam": GradCam()})
    groups.check()
    assert groups.first_request()[0] == 2
    rows, forwards = rows_of(groups, sample())
    assert forwards == 1 + 1 + 1 + 1 + 4 * 4  # full, prior, empty, gradcam, curves
    assert forwards == groups.forwards(groups.wanted, {})
    for (method, _), row in rows.items():
        assert row["status"] == "ok" and row["n_players"] == 5
        np.testing.assert_allclose(row["fraction"], np.arange(6) / 5, atol=1e-4)
        assert row["evaluations"] == 1 + (method == "gradcam")  # the cut counts, for each row
        assert unpacked(row["regions"]).unique().tolist() == [0, 1, 2, 3, 4]
    heat = rows["gradcam", "insertion"]
    assert (np.diff(heat["scores"]) >= 0).all() and heat["order"][0] == 4
    whole, _ = rows_of(work(tiny_model), sample())
    assert whole["random", "insertion"].get("regions") is None
    assert heat["prediction"] == whole["random", "insertion"]["prediction"]


def test_an_order_is_judged_on_the_players_that_it_was_found_for(tiny_model):
    settings = {"players": Quantiles(), "methods": CONTROL}
    known, _ = rows_of(work(tiny_model, **settings), sample())
    other = packed(unpacked(known["random", "insertion"]["regions"]).flip(1))  # as another device's
    known = {place: row | {"regions": other} for place, row in known.items()}
    blurred = work(tiny_model, curve_masking=Blur(), **settings)
    again, forwards = rows_of(blurred, sample(), known)
    assert forwards == 2 + 2 * 4 == blurred.forwards(blurred.wanted, known)  # heat is not asked for
    for place, row in again.items():
        assert row["status"] == "ok" and row["regions"] == other
        assert row["evaluations"] == known[place]["evaluations"] == 1


def test_a_view_shows_the_pixels_that_the_model_is_given(tiny_model):
    pixels_HWC = np.random.default_rng(1).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    mean, std = (torch.tensor(tiny_model.preprocessing[name]) for name in ("mean", "std"))
    image_CHW = ((torch.from_numpy(pixels_HWC) / 255 - mean) / std).permute(2, 0, 1)
    view = View(image_CHW, tiny_model.preprocessing)
    np.testing.assert_array_equal(view.pixels_HWC, pixels_HWC)


@pytest.fixture(scope="module")
def vit():
    return TimmModel(name="test_vit", weights="random", kwargs={"num_classes": 10}).load()


@pytest.mark.parametrize("masking", [Zero(), TokenDrop()])
def test_entropy_and_features_are_those_of_the_plain_model(masking, tiny_model, vit):
    model = vit if masking == TokenDrop() else tiny_model
    grid = model.module.patch_embed.grid_size[0] if model is vit else 4
    regions_HW = PatchGrid(grid=grid).cut(*model.input_hw)
    coalitions_CN = torch.rand(9, grid**2, generator=torch.Generator().manual_seed(0)) < 0.5
    coalitions_CN[4] = True

    def asks(seed: int, **reads):
        generator = torch.Generator().manual_seed(seed)
        image_CHW = torch.randn(3, *model.input_hw, generator=generator)
        arena = Arena(model, View(image_CHW, model.preprocessing), regions_HW, "")
        yield from arena.meet(masking, None)

        def coroutine():
            together, alone = (yield Coalitions(coalitions_CN, **reads)), []
            for row_1N in coalitions_CN.split(1):
                alone.append((yield Coalitions(row_1N)))
            return together, Outputs.cat(alone)

        (outputs, alone), _ = yield from arena.play(coroutine(), masking)
        torch.testing.assert_close(outputs.log_odds_CT, alone.log_odds_CT, atol=1e-4, rtol=1e-4)
        return arena, outputs

    engine = Engine(model, tokens_per_batch=10_000)
    tasks = [asks(0, entropy=True, features=True), asks(1, features=True), asks(2)]
    found = list(engine.run(tasks, in_flight=3))
    for arena, outputs in found:
        with torch.inference_mode():
            features_D = model.encode(arena.view.image_CHW[None])[0]
            log_p_K = model.module(arena.view.image_CHW[None])[0].log_softmax(0)
        if outputs.features_CD is not None:
            torch.testing.assert_close(outputs.features_CD[4], features_D, atol=1e-4, rtol=1e-4)
            with torch.inference_mode():
                logits_CK = model.classify(outputs.features_CD)
            assert torch.equal(logits_CK.argmax(1), outputs.prediction_C)
        if outputs.entropy_C is not None:
            entropy = -(log_p_K.exp() * log_p_K).sum()
            torch.testing.assert_close(outputs.entropy_C[4], entropy, atol=1e-4, rtol=1e-4)
            assert outputs.entropy_C.shape == (9,)
    reads = sorted((o.entropy_C is not None, o.features_CD is not None) for _, o in found)
    assert reads == [(False, False), (False, True), (True, True)]


def test_a_coroutine_may_play_elsewhere(tiny_model):
    """Other players, another masking: as if the image's own game were that one."""
    size, images = tiny_model.input_hw, torch.randn(3, *tiny_model.input_hw)
    view, coarse_HW = View(images, tiny_model.preprocessing), PatchGrid(grid=2).cut(*size)
    one_CN = torch.tensor([[True, False, False, True]])

    def asks(game):
        shown = yield Coalitions(one_CN)
        return game.n_players, game.target, shown.value_C, game.ends.value_C

    def found(regions_HW, masking, ask=None):
        def task():
            arena = Arena(tiny_model, view, regions_HW, "")
            yield from arena.meet(masking, 3)
            game = yield from arena.open(masking)
            played, bill = yield from arena.play(ask() if ask else asks(game), masking)
            assert bill.tokens > 0
            return played

        (played,) = Engine(tiny_model).run([task()], in_flight=1)
        return played

    def visits(**where):
        def ask():
            return (yield Elsewhere(asks, **where))

        return found(PatchGrid(grid=4).cut(*size), Zero(), ask)

    own = found(coarse_HW, Blur())
    there = visits(cut=lambda view: coarse_HW, masking=Blur())
    assert own[:2] == there[:2] == (4, 3)
    torch.testing.assert_close(own[2:], there[2:])
