"""Undesirable pixels: a mask whose blurred part raises the target's probability, by Adam.

F-TC and F-NTC (Kang et al., arXiv:1909.12446, eqs. 3 to 7). A mask M holds a value per cell, 1 =
keep, 0 = blurred; M' is M enlarged to the input, and Q = X M' + h(X) (1 - M') what the model sees.
With f the probabilities, dz the change of the logits against the plain image and k the target:

    base    -f_k(Q) + R(M)
    F-TC    -f_k(Q) + R(M) + gamma |mean of dz_i over i != k|
    F-NTC   1 - f_k(Q) + R(M) + gamma |dz_k|
    R(M)  = tv_weight mean over cells of (|dx|^beta + |dy|^beta)^(1/beta) + l1_weight mean(1 - M)

Losses of all rows are summed and Adam works element by element, so a batch equals its rows alone.
The objective has kinks wherever cells are equal or logits are where they were, and steps amplify
rounding a thousandfold: rows agree only where the model computes them bit for bit alike. Matrix
products do for batches of 4 rows or more on the CPUs measured, so smaller ones are filled up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.functional import gaussian_blur

from pipeline import UsageError
from pipeline.game import OBJECTIVES, Game
from pipeline.methods import Coroutine
from pipeline.methods.heatmaps import HeatRequest, by_heat, gradient_heat
from pipeline.methods.undesirable_loss import Loss
from pipeline.models import Model

Anchor = Literal["none", "others", "target"]
FEWEST = 4
"""Rows that a batch is filled up to."""


@dataclass(frozen=True, kw_only=True)
class Undesirable:
    """One variant with its hyper-parameters; the defaults are the paper's, where it gives them.

    `anchor`: which logits are held: `none` (base), `others` (F-TC, their mean), `target` (F-NTC).
    `rate` falls to 0 over the steps (`decay`: `linear`), so that the last mask does not oscillate
    by a tenth, or stays (`none`, as printed).
    `reduction`: of R over cells, `mean` or `sum` (printed, but cannot give the published masks).
    `tv`: `root` as above, or `plain`, mean |dx|^beta + mean |dy|^beta.
    `norm` of the others' change: of its `mean`, or the root mean square over classes, `rms`.
    `score`: the target's `probability`, or `log_probability`.
    `start`: `ones`, or `uniform` in [0.9, 1). `noise`: standard deviation of what is added to the
    normalised Q at each step. `seed` decides both, with the sample's key and the trial; alone where
    the mask serves as a heatmap.
    `kernel`, `sigma`: of the blur h, reflected at the border, in pixels.
    """

    anchor: Anchor = "none"
    gamma: float = 0.3
    tv_weight: float = 1.7
    l1_weight: float = 3.0
    beta: float = 2.0
    cells: int = 28
    steps: int = 200
    rate: float = 0.1
    decay: Literal["linear", "none"] = "linear"
    reduction: Literal["mean", "sum"] = "mean"
    tv: Literal["root", "plain"] = "root"
    norm: Literal["mean", "rms"] = "mean"
    score: Literal["probability", "log_probability"] = "probability"
    start: Literal["ones", "uniform"] = "ones"
    noise: float = 0.0
    kernel: int = 11
    sigma: float = 5.0
    align_corners: bool = True
    seed: int = 0

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        for name in ("anchor", "decay", "reduction", "tv", "norm", "score", "start"):
            known = get_args(type(self).__annotations__[name])
            if (value := getattr(self, name)) not in known:
                raise UsageError(f"{name}={value!r}: use one of {list(known)}")
        for name in ("cells", "steps", "kernel", "seed"):
            if not isinstance(getattr(self, name), int):
                raise UsageError(f"{name}={getattr(self, name)}: give a whole number")
        for name in ("cells", "steps", "rate", "kernel", "sigma"):
            if not 0 < getattr(self, name) < inf:
                raise UsageError(f"{name}={getattr(self, name)}: give a positive number")
        if not 1 <= self.beta < inf:
            raise UsageError(f"beta={self.beta}: give 1 or more")
        if self.kernel % 2 == 0:
            raise UsageError(f"kernel={self.kernel}: give an odd number of pixels")
        for name in ("gamma", "tv_weight", "l1_weight", "noise"):
            if not 0 <= getattr(self, name) < inf:
                raise UsageError(f"{name}={getattr(self, name)}: give 0 or more")

    def most_forwards(self, n_players: int) -> int:
        """A forward a step, each with one backward; the plain image and the last mask besides."""
        return self.steps + 2

    @property
    def batch(self) -> "Undesirable":
        """Variants with the same `batch` can share one: weights and anchor are each row's own."""
        return replace(self, anchor="none", gamma=0.0, tv_weight=0.0, l1_weight=0.0)

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        return (yield from by_heat(self, game))

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Batched with other images."""
        return (yield from gradient_heat(self, image_CHW, target))

    def heatmaps(self, model: Model, images_BCHW: Tensor, targets: list[int]) -> Tensor:
        """M' (B, H, W): the most undesirable pixels are the least important."""
        seeds = [self.seed] * len(targets)
        found = optimise(model, images_BCHW, targets, [self] * len(targets), seeds)
        return self.enlarge(found.mask_Bcc, model.input_hw)

    def blur(self, images_BCHW: Tensor) -> Tensor:
        """h(X), (B, C, H, W)."""
        return gaussian_blur(images_BCHW, [self.kernel, self.kernel], [self.sigma, self.sigma])

    def enlarge(self, mask_Bcc: Tensor, hw: tuple[int, int]) -> Tensor:
        """M' (B, H, W) of M (B, cells, cells), bilinear; exactly 1 where M is."""
        blurred_B1HW = interpolate(
            1 - mask_Bcc[:, None], hw, mode="bilinear", align_corners=self.align_corners
        )
        return 1 - blurred_B1HW[:, 0]

    def per_cell(self, values_BHW: Tensor) -> Tensor:
        """(B, cells, cells): what a cell of M weighs in the sum of M' times the values."""
        ones_Bcc = torch.ones(len(values_BHW), self.cells, self.cells, device=values_BHW.device)
        with torch.enable_grad():
            ones_Bcc.requires_grad_(True)
            height, width = values_BHW.shape[1:]
            total = (self.enlarge(ones_Bcc, (height, width)) * values_BHW).sum()
            return torch.autograd.grad(total, ones_Bcc)[0]

    def perturb(self, images_BCHW: Tensor, blurred_BCHW: Tensor, mask_Bcc: Tensor) -> Tensor:
        """Q (B, C, H, W)."""
        mask_B1HW = self.enlarge(mask_Bcc, (images_BCHW.shape[2], images_BCHW.shape[3]))[:, None]
        return torch.lerp(blurred_BCHW, images_BCHW, mask_B1HW)


class Masks(NamedTuple):
    """What optimisation found for B rows, on the model's device.

    `mask_Bcc` after the last step; `best_Bcc` the iterate of the least loss, `best_B` its loss,
    `step_B` the steps that led to it; `loss_BT` the loss before each step, `final_B` after the last
    one, `ones_B` at M = 1; `plain_BK` and `logits_BK` the logits of the images and of the last
    masks; all but `loss_BT` without noise.
    """

    mask_Bcc: Tensor
    best_Bcc: Tensor
    best_B: Tensor
    step_B: Tensor
    loss_BT: Tensor
    final_B: Tensor
    ones_B: Tensor
    plain_BK: Tensor
    logits_BK: Tensor


def optimise(
    model: Model,
    images_BCHW: Tensor,
    targets: Sequence[int],
    variants: Sequence[Undesirable],
    seeds: Sequence[int],
    spent: Callable[[int], None] = lambda forwards: None,
) -> Masks:
    """Masks of B rows together; `variants` share their `batch`, `seeds` drive start and noise.

    `spent` is told of every batch of forwards. The model must compute in fp32.
    """
    how, rows = variants[0].batch, len(images_BCHW)
    if any(variant.batch != how for variant in variants):
        raise ValueError("variants of one batch may differ in anchor and weights only")
    if model.dtype != torch.float32:
        raise ValueError("masks are optimised in fp32; use engine.precision=fp32")
    filled = max(rows, FEWEST) if model.device.type == "cpu" else rows
    every = [i % rows for i in range(filled)]  # the first ones again
    found = _descended(
        model,
        images_BCHW.to(model.device)[every],
        [targets[i] for i in every],
        [variants[i] for i in every],
        [seeds[i] for i in every],
        lambda: spent(rows),
    )
    return Masks(*(tensor[:rows] for tensor in found))


def _descended(
    model: Model,
    images_BCHW: Tensor,
    targets: Sequence[int],
    variants: Sequence[Undesirable],
    seeds: Sequence[int],
    passed: Callable[[], None],
) -> Masks:
    """All steps of Adam; `passed` is told of every forward of the batch."""
    how = variants[0].batch
    blurred_BCHW = how.blur(images_BCHW)
    randoms = [torch.Generator(model.device).manual_seed(seed) for seed in seeds]
    mask_Bcc = _start(how, randoms)
    with torch.no_grad():
        plain_BK = model.module(images_BCHW)
    passed()
    loss_of = Loss(variants, targets, plain_BK)
    ones_B = loss_of(torch.ones_like(mask_Bcc), plain_BK)
    best, losses = _Best(mask_Bcc), []
    mask_Bcc.requires_grad_(True)
    adam = torch.optim.Adam([mask_Bcc], lr=how.rate)
    for step in range(how.steps):
        with torch.enable_grad():
            seen_BCHW = how.perturb(images_BCHW, blurred_BCHW, mask_Bcc)
            loss_B = loss_of(mask_Bcc, model.module(_noisy(how, seen_BCHW, randoms)))
            mask_Bcc.grad = None
            loss_B.sum().backward()
        best.offer(step, mask_Bcc.detach(), loss_B.detach())
        losses.append(loss_B.detach())
        if how.decay == "linear":
            adam.param_groups[0]["lr"] = how.rate * (1 - step / how.steps)
        adam.step()
        with torch.no_grad():
            mask_Bcc.clamp_(0, 1)
        passed()
    mask_Bcc = mask_Bcc.detach()
    with torch.no_grad():
        logits_BK = model.module(how.perturb(images_BCHW, blurred_BCHW, mask_Bcc))
        final_B = loss_of(mask_Bcc, logits_BK)
        if how.noise:  # the least noisy loss may owe it to its noise
            seen_BCHW = how.perturb(images_BCHW, blurred_BCHW, best.mask_Bcc)
            best.loss_B = loss_of(best.mask_Bcc, model.module(seen_BCHW))
    passed()
    best.offer(how.steps, mask_Bcc, final_B)
    loss_BT = torch.stack(losses, 1)
    found = (best.mask_Bcc, best.loss_B, best.step_B, loss_BT, final_B, ones_B, plain_BK, logits_BK)
    return Masks(mask_Bcc, *found)


def _start(how: Undesirable, randoms: list[torch.Generator]) -> Tensor:
    shape, device = (how.cells, how.cells), randoms[0].device
    if how.start == "ones":
        return torch.ones(len(randoms), *shape, device=device)
    drawn = [torch.rand(shape, generator=random, device=device) for random in randoms]
    return 0.9 + 0.1 * torch.stack(drawn)


def _noisy(how: Undesirable, seen_BCHW: Tensor, randoms: list[torch.Generator]) -> Tensor:
    if not how.noise:
        return seen_BCHW
    shape, device = seen_BCHW.shape[1:], seen_BCHW.device
    noise = [torch.randn(shape, generator=random, device=device) for random in randoms]
    return seen_BCHW + how.noise * torch.stack(noise)


class _Best:
    """Each row's iterate of the least loss."""

    def __init__(self, mask_Bcc: Tensor):
        self.mask_Bcc = mask_Bcc.clone()
        self.loss_B = torch.full((len(mask_Bcc),), torch.inf, device=mask_Bcc.device)
        self.step_B = torch.zeros_like(self.loss_B, dtype=torch.long)

    def offer(self, step: int, mask_Bcc: Tensor, loss_B: Tensor) -> None:
        better_B = loss_B < self.loss_B
        self.mask_Bcc = torch.where(better_B[:, None, None], mask_Bcc, self.mask_Bcc)
        self.loss_B = torch.where(better_B, loss_B, self.loss_B)
        self.step_B = self.step_B.masked_fill(better_B, step)
