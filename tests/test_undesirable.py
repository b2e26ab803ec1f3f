"""The mask optimiser, its greedy counterpart and controls on toy models; exact statements."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import table_game

from pipeline import UsageError
from pipeline.data import Sample
from pipeline.engine import Engine, Listed, Request
from pipeline.methods import play
from pipeline.methods.heatmaps import Heatmaps, Wanted
from pipeline.methods.subset import Subset
from pipeline.methods.undesirable import Undesirable, optimise
from pipeline.methods.undesirable_loss import Loss
from pipeline.models import Model
from pipeline.scores.target import Target
from pipeline.searches.greedy import Greedy
from pipeline.studies.masks.controls import MASKED, SAME_AREA, control, of_area
from pipeline.studies.masks.programs import Look, Optimise, Seen, Wish
from pipeline.studies.masks.rows import converged, phi, residual
from pipeline.studies.masks.statistics import alike
from pipeline.studies.masks.work import MasksWork

pytestmark = pytest.mark.usefixtures("one_thread")
ANCHORS = ("none", "others", "target")


@pytest.fixture(scope="module")
def model():
    """Six classes of smooth features of a 40 x 40 image, so that gradients matter everywhere."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 12, 5, stride=3),
        torch.nn.Tanh(),
        torch.nn.Conv2d(12, 12, 3, stride=2),
        torch.nn.Tanh(),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(6),
    )
    module(torch.zeros(1, 3, 40, 40))
    for parameter in module.parameters():
        parameter.data *= 3
    module.eval().requires_grad_(False)
    return Model(module=module, preprocessing={"input_size": (3, 40, 40)})


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 40, 40, generator=torch.Generator().manual_seed(1))


def small(**settings) -> Undesirable:
    return Undesirable(**{"cells": 7, "steps": 30, "l1_weight": 0.3, "tv_weight": 0.1} | settings)


def run(model, variants, pictures, targets, seeds=None):
    return optimise(model, pictures, targets, variants, seeds or [0] * len(variants))


def test_without_gamma_the_variants_are_one(model):
    variants = [small(anchor=anchor, gamma=0.0) for anchor in ANCHORS]
    found = run(model, variants, images(1).repeat(3, 1, 1, 1), [2, 2, 2])
    torch.testing.assert_close(found.mask_Bcc[0], found.mask_Bcc[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.mask_Bcc[0], found.mask_Bcc[2], atol=1e-6, rtol=0)
    assert found.mask_Bcc.min() < 0.9  # something was found to blur


def test_a_batch_equals_its_rows_alone(model):
    variants = [small(anchor=a, gamma=g) for a, g in zip(ANCHORS, (0.3, 0.1, 0.02), strict=True)]
    variants = [dataclasses.replace(v, noise=0.2) for v in variants] * 2
    pictures, targets, seeds = images(6), [0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9, 10]
    together = run(model, variants, pictures, targets, seeds)
    for i, variant in enumerate(variants):
        alone = run(model, [variant], pictures[i : i + 1], targets[i : i + 1], [seeds[i]])
        torch.testing.assert_close(alone.mask_Bcc[0], together.mask_Bcc[i], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.loss_BT[0], together.loss_BT[i], atol=1e-4, rtol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize(("beta", "norm", "tv"), [(2.0, "mean", "root"), (3.0, "rms", "plain")])
def test_at_ones_only_the_score_is_left_and_gradients_are_finite(
    model, anchor, reduction, beta, norm, tv
):
    variant = Undesirable(anchor=anchor, reduction=reduction, beta=beta, norm=norm, tv=tv)
    pictures = images(2)
    plain_BK = model.module(pictures)
    mask_Bcc = torch.ones(2, 28, 28, requires_grad=True)
    seen = variant.perturb(pictures, variant.blur(pictures), mask_Bcc)
    assert torch.equal(seen, pictures)
    loss_B = Loss([variant] * 2, [3, 4], plain_BK)(mask_Bcc, model.module(seen))
    p_B = plain_BK.softmax(1)[[0, 1], [3, 4]]
    expected = 1 - p_B if anchor == "target" else -p_B
    torch.testing.assert_close(loss_B, expected, atol=2e-6, rtol=0)
    loss_B.sum().backward()
    assert mask_Bcc.grad.isfinite().all() and mask_Bcc.grad.abs().max() > 0


@pytest.mark.parametrize("anchor", ANCHORS)
def test_the_loss_is_the_printed_one(anchor):
    """Every term by explicit sums over cells and classes."""
    rng = np.random.default_rng(0)
    mask, plain, now = rng.random((4, 4)), rng.normal(size=5), rng.normal(size=5)
    variant = Undesirable(anchor=anchor, gamma=0.7, tv_weight=1.3, l1_weight=2.1, cells=4)
    p = np.exp(now[2]) / np.exp(now).sum()
    others = [i for i in range(5) if i != 2]
    expected = (1 - p) if anchor == "target" else -p
    for i in range(4):
        for j in range(4):
            dy = mask[i + 1, j] - mask[i, j] if i < 3 else 0.0
            dx = mask[i, j + 1] - mask[i, j] if j < 3 else 0.0
            expected += (1.3 * math.hypot(dx, dy) + 2.1 * (1 - mask[i, j])) / 16
    if anchor == "others":
        expected += 0.7 * abs(np.mean([now[i] - plain[i] for i in others]))
    if anchor == "target":
        expected += 0.7 * abs(now[2] - plain[2])
    tensors = [torch.tensor(x[None], dtype=torch.float32) for x in (mask, now, plain)]
    found = Loss([variant], [2], tensors[2])(tensors[0], tensors[1])
    assert float(found) == pytest.approx(expected, abs=1e-3)  # roots have room of 1e-4


def test_summing_over_cells_leaves_nothing_undesirable(model):
    for anchor in ANCHORS:
        variant = Undesirable(anchor=anchor, reduction="sum", steps=60, decay="none")
        found = run(model, [variant] * 2, images(2), [0, 1])
        assert (1 - found.mask_Bcc).max() <= 0.6


def test_each_anchor_holds_its_own_logits(model):
    pictures, targets = images(6), [0, 1, 2, 3, 4, 5]
    drift = {}
    for anchor in ANCHORS:
        found = run(model, [small(anchor=anchor, gamma=0.1, steps=60)] * 6, pictures, targets)
        change_BK = found.logits_BK - found.plain_BK
        own_B = change_BK[range(6), targets]
        drift[anchor] = (own_B.abs().mean(), ((change_BK.sum(1) - own_B) / 5).abs().mean())
    assert drift["target"][0] < 0.7 * drift["others"][0]
    assert drift["others"][1] < 0.7 * drift["target"][1]


def test_the_mask_of_least_loss_is_kept(model):
    variant = small(decay="none", rate=0.3)
    found = run(model, [variant] * 3, images(3), [0, 1, 2])
    loss_of = Loss([variant] * 3, [0, 1, 2], found.plain_BK)
    pictures = images(3)
    with torch.no_grad():
        seen = variant.perturb(pictures, variant.blur(pictures), found.best_Bcc)
        best_B = loss_of(found.best_Bcc, model.module(seen))
    torch.testing.assert_close(best_B, found.best_B, atol=1e-5, rtol=0)
    every_BT = torch.cat([found.loss_BT, found.final_B[:, None]], 1)
    torch.testing.assert_close(best_B, every_BT.min(1).values, atol=1e-5, rtol=0)
    assert found.mask_Bcc.min() >= 0 and found.mask_Bcc.max() <= 1


def test_noise_belongs_to_the_seed(model):
    variant = small(noise=0.2, start="uniform")
    a, b, c = (run(model, [variant], images(1), [0], [seed]).mask_Bcc for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_one_optimisation_needs_one_kind_of_batch(model):
    with pytest.raises(ValueError, match="anchor and weights only"):
        run(model, [small(), small(steps=3)], images(2), [0, 1])


def test_a_budget_splits_the_batch_and_changes_nothing(model):
    wishes = [
        Wish(x, i, small(anchor=a), i)
        for i, (x, a) in enumerate(zip(images(3), ANCHORS, strict=True))
    ]
    program = Optimise(small().batch)

    def ask(rows):
        return (yield Request(program, Listed(rows)))

    class Small(Optimise):
        def launch(self, model, pieces, spent):
            if sum(map(len, pieces)) > 1:
                raise torch.OutOfMemoryError("too large")
            return super().launch(model, pieces, spent)

    whole = Engine(model, tokens_per_batch=10_000)
    ((found, seconds, *_),) = whole.run([ask(wishes)], in_flight=1)
    assert seconds > 0 and whole.counters.forwards == 3 * small().most_forwards(0)
    program = Small(small().batch)
    halved = Engine(model, tokens_per_batch=10_000)
    ((again, *_),) = halved.run([ask(wishes)], in_flight=1)
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(one.mask_Bcc, other.mask_Bcc, atol=1e-4, rtol=0)


def test_as_a_heatmap_method_it_maps_what_is_kept(model):
    variant = small()
    rows = Listed([Wanted(images(1)[0], 0)])
    answers = Heatmaps(variant).launch(model, [rows], lambda forwards: None)
    mask_Bcc = run(model, [variant], images(1), [0]).mask_Bcc
    torch.testing.assert_close(answers[0], variant.enlarge(mask_Bcc, (40, 40))[0])


@pytest.mark.parametrize(
    "wrong",
    [{"anchor": "all"}, {"beta": 0.5}, {"kernel": 4}, {"steps": 0}, {"noise": -1}, {"rate": 0}],
)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Undesirable(**wrong)


def test_residual_keeps_what_the_probability_loses():
    logits_K = torch.tensor([60.0, 0.0, 0.0])
    assert residual(logits_K, 0) == pytest.approx(2 * math.exp(-60), rel=1e-9)
    assert residual(logits_K, 1) == pytest.approx(1.0)
    assert phi(0.4, 0.1) == pytest.approx(75.0)


def test_looks_agree_with_the_model(model):
    (image_CHW,) = images(1)
    mask_cc = torch.rand(7, 7, generator=torch.Generator().manual_seed(0))
    how = small()
    rows = Listed([Seen(image_CHW, mask_cc)])
    found = Look(how).launch(model, [rows], lambda forwards: None)
    enlarged = torch.nn.UpsamplingBilinear2d((40, 40))(mask_cc[None, None])
    blurred = how.blur(image_CHW[None])
    expected = model.module(image_CHW[None] * enlarged + blurred * (1 - enlarged))
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=1e-4)


def test_blur_is_the_printed_kernel():
    x = torch.zeros(1, 1, 31, 31)
    x[0, 0, 15, 15] = 1.0
    taps = np.exp(-(np.arange(-5, 6) ** 2) / 50)
    expected = np.outer(taps, taps) / taps.sum() ** 2
    np.testing.assert_allclose(Undesirable().blur(x)[0, 0, 10:21, 10:21], expected, atol=1e-6)
    edge = Undesirable().blur(torch.arange(31.0).expand(1, 1, 31, 31))[0, 0, 0]
    reflected = np.pad(np.arange(31.0), 5, mode="reflect")
    np.testing.assert_allclose(edge, np.convolve(reflected, taps / taps.sum(), "valid"), atol=1e-4)


def test_controls_of_the_same_area_keep_every_value():
    mask_cc = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    saliency_cc = torch.rand(6, 6, generator=torch.Generator().manual_seed(1))
    for name in SAME_AREA:
        found = control(name, mask_cc, saliency_cc, np.random.default_rng(0))
        assert torch.equal(found.flatten().sort().values, mask_cc.flatten().sort().values)
        assert not torch.equal(found, mask_cc)
    inverse = control("inverse_saliency", mask_cc, saliency_cc, np.random.default_rng(0))
    assert torch.equal(
        inverse.flatten().argsort(stable=True), saliency_cc.flatten().argsort(stable=True)
    )
    assert control("full_blur", mask_cc, saliency_cc, np.random.default_rng(0)).sum() == 0
    assert set(SAME_AREA) < set(MASKED)


def test_controls_are_scaled_to_the_area_of_the_mask():
    """Border cells cover half as many pixels; cells that are full stay so."""
    how = small()
    shares_cc = how.per_cell(torch.full((1, 40, 40), 1 / 1600))[0]
    assert float(shares_cc.sum()) == pytest.approx(1)
    assert float(shares_cc[0, 0]) < 0.6 * float(shares_cc[0, 3]) < 0.4 * float(shares_cc[3, 3])
    for seed, sharpness in ((0, 1), (1, 4), (2, 20)):
        generator = torch.Generator().manual_seed(seed)
        mask_cc = (sharpness * torch.rand(7, 7, generator=generator)).clamp(max=1)
        blurred_HW = 1 - how.enlarge(mask_cc[None], (40, 40))[0]
        area = float(blurred_HW.mean())
        for name in ("random", "shifted"):
            moved_cc = control(name, mask_cc, mask_cc, np.random.default_rng(seed))
            found_cc = of_area(moved_cc, area, shares_cc)
            again_HW = 1 - how.enlarge(found_cc[None], (40, 40))[0]
            assert float(again_HW.mean()) == pytest.approx(area, abs=1e-6)
            assert found_cc.min() >= 0 and found_cc.max() <= 1
            assert torch.equal(found_cc == 1, moved_cc == 1)
    full_cc = of_area(torch.eye(7), 1.0, shares_cc)  # more than it can cover
    assert torch.equal(full_cc, torch.eye(7))
    assert torch.equal(of_area(torch.ones(7, 7), 0.0, shares_cc), torch.ones(7, 7))


def test_where_the_mask_is_one_its_enlargement_is():
    for cells, side in ((7, 40), (28, 64), (28, 224), (5, 33)):
        for align in (True, False):
            how = small(cells=cells, align_corners=align)
            ones_HW = how.enlarge(torch.ones(1, cells, cells), (side, side))[0]
            assert torch.equal(ones_HW, torch.ones(side, side))


def test_the_best_iterate_is_told_with_its_step(model):
    """Under noise too, where the least noisy loss need not be it."""
    for noise in (0.0, 0.3):
        found = run(model, [small(noise=noise)] * 4, images(4), [0, 1, 2, 3], seeds=[1, 2, 3, 4])
        for i, step in enumerate(found.step_B.tolist()):
            same = torch.equal(found.best_Bcc[i], found.mask_Bcc[i])
            assert same or step < 30
            if not noise:
                losses_T = torch.cat([found.loss_BT[i], found.final_B[i : i + 1]])
                assert float(losses_T[step]) == float(found.best_B[i]) == float(losses_T.min())
            if step == 30:
                assert float(found.best_B[i]) == float(found.final_B[i])


def greedy(stop: str = "flip", **settings) -> Subset:
    """The greedy search for undesirable players, as its configuration file says it."""
    score = Target(visible="others", sign=1)
    return Subset(score=score, search=Greedy(), stop=stop, gain=True, **settings)


def test_greedy_hides_only_what_raises_the_value():
    for seed in range(5):
        value = table_game(6, seed)
        (found,) = play(greedy(), value, 6).values()
        hidden = torch.zeros(7, 6, dtype=torch.bool)
        for step, player in enumerate(found.order):
            hidden[step + 1 :, player] = True
        along = value(~hidden[: len(found.order) + 1])
        assert (along.diff() > 0).all()
        left = [p for p in range(6) if p not in found.order]
        for k in range(len(found.order)):  # each pick is the best there is
            candidates = [p for p in range(6) if p not in found.order[:k]]
            tried = hidden[k].repeat(len(candidates), 1)
            tried[torch.arange(len(candidates)), candidates] = True
            assert value(~tried).max() == along[k + 1]
        stays = bool(value(torch.ones(1, 6, dtype=torch.bool)) > 0)
        if left and (stays or along[-1] <= 0):
            last = hidden[len(found.order)].repeat(len(left), 1)
            last[torch.arange(len(left)), left] = True
            assert value(~last).max() <= along[-1] + 1e-5
        steps = len(found.order) + (1 if left and (stays or along[-1] <= 0) else 0)
        assert found.evaluations == sum(6 - k for k in range(steps))


def test_greedy_stops_where_the_target_becomes_the_prediction():
    def value(coalitions_CN):  # hiding any player helps; two of them turn the prediction
        return 1.5 - coalitions_CN.sum(1).double() + 2

    (found,) = play(greedy(), value, 5).values()
    assert found.order == [0, 1]
    (on,) = play(greedy("full"), value, 5).values()
    assert on.order == [0, 1, 2, 3, 4]
    (none,) = play(greedy(), lambda c: c.sum(1).double(), 5).values()
    assert none.order == [] and none.evaluations == 5
    (short,) = play(greedy(budget=1), value, 5).values()
    assert short.order == [0] and short.evaluations == 5


def test_one_bad_variant_does_not_take_the_others_along(model):
    work = MasksWork(
        data=SimpleNamespace(name="toy"),
        model=model,
        fingerprints={"good": "x", "bad": "y"},
        variants={"good": small(steps=2), "bad": small(steps=3, noise=3e38)},
        controls=["random", "greedy"],
        greedy_grid=4,
    )
    sample = Sample(shard="s", key="k", encoded=b"", label=None)
    task = work.explain((sample, images(1)[0]), work.wanted, {})
    (found,) = Engine(model).run([task], in_flight=1)
    status = {row["method"]: row["status"] for row in found}
    assert status == {"good": "ok", "bad": "failed"}
    assert "not finite" in next(row["error"] for row in found if row["method"] == "bad")


def test_images_at_different_stages_share_batches(model):
    """The first look, at the plain image, joins looks at masks of other images."""
    work = MasksWork(
        data=SimpleNamespace(name="toy"),
        model=model,
        fingerprints={"f_tc": "x"},
        variants={"f_tc": small(anchor="others", steps=3)},
        controls=["random", "inverse_saliency", "greedy"],
        greedy_grid=4,
    )

    def task(i: int, image_CHW):
        sample = Sample(shard="s", key=str(i), encoded=b"", label=i)
        return work.explain((sample, image_CHW), work.wanted, {})

    def rows(in_flight: int, budget: int) -> list[dict]:
        engine = Engine(model, tokens_per_batch=budget)
        tasks = (task(i, x) for i, x in enumerate(images(5)))
        found = [row for part in engine.run(tasks, in_flight=in_flight) for row in part]
        return sorted(found, key=lambda row: row["key"])

    first = next(task(0, images(1)[0]))
    assert first.rows[0].mask_cc.shape == (7, 7)
    for one, other in zip(rows(1, 6), rows(3, 30), strict=True):
        assert one["status"] == other["status"] == "ok", other
        np.testing.assert_array_equal(one["mask"], other["mask"])
        assert one["residual_random"] == pytest.approx(other["residual_random"], abs=1e-5)
        assert one["residual_greedy"] == pytest.approx(other["residual_greedy"], abs=1e-5)


def test_alike():
    one, other = np.ones(49), np.ones(49)
    one[[8, 9, 15, 16]] = other[[8, 9, 15, 16]] = 0
    assert alike(np.stack([one, other]), side=56) == pytest.approx((1.0, 1.0))
    other = np.roll(one, 28)
    overlap, r = alike(np.stack([one, other]), side=56)
    assert overlap == 0 and r < 0
    nothing = alike(np.ones((2, 49)), side=56)
    assert np.isnan(nothing).all()


def test_converged_means_that_the_loss_has_settled():
    assert converged(torch.linspace(1, 0, 100).clamp_min(0.4))
    assert not converged(torch.linspace(1, 0, 20))
