"""What masks ask of the engine: plain and masked forwards, saliency, optimisation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.masking.pixels import gradient_tokens, image_tokens
from pipeline.methods.undesirable import Masks, Undesirable, optimise
from pipeline.models import Model

Spent = Callable[[int], None]


class Seen(NamedTuple):
    """An image (C, H, W) under a mask (cells, cells), 1 = keep."""

    image_CHW: Tensor
    mask_cc: Tensor


class Wish(NamedTuple):
    """A mask to be optimised; `seed` decides start and noise."""

    image_CHW: Tensor
    target: int
    variant: Undesirable
    seed: int


@dataclass(frozen=True)
class Look:
    """Logits (K,) of rows of Seen; `how` says how masks are enlarged and what blur is."""

    how: Undesirable

    def tokens(self, model: Model) -> int:
        """Those of the image."""
        return image_tokens(model)

    def run(self, model: Model, rows: list[Seen], spent: Spent) -> list[Tensor]:
        """One forward."""
        images_BCHW = _images(model, [row.image_CHW for row in rows])
        masks_Bcc = torch.stack([row.mask_cc for row in rows]).to(model.device)
        with torch.inference_mode():
            blurred_BCHW = self.how.blur(images_BCHW)
            logits_BK = model.module(self.how.perturb(images_BCHW, blurred_BCHW, masks_Bcc))
        spent(len(rows))
        return list(logits_BK.cpu())


@dataclass(frozen=True)
class Saliency:
    """Mean over a cell's pixels of max over channels of |d f_k / dX|, (cells, cells); rows are
    (image, target) (Simonyan et al., 2014). `how` says which pixels a cell covers, and how much."""

    how: Undesirable

    def tokens(self, model: Model) -> int:
        """With gradients."""
        return gradient_tokens(model)

    def run(self, model: Model, rows: list[tuple[Tensor, int]], spent: Spent) -> list[Tensor]:
        """One forward, one backward."""
        images_BCHW = _images(model, [image for image, _ in rows]).requires_grad_(True)
        target_B1 = torch.tensor([target for _, target in rows], device=model.device)[:, None]
        with torch.enable_grad():
            probability_B1 = model.module(images_BCHW).softmax(1).gather(1, target_B1)
            probability_B1.sum().backward()
        spent(len(rows))
        assert images_BCHW.grad is not None
        slope_BHW = images_BCHW.grad.abs().amax(1)
        covered_1cc = self.how.per_cell(torch.ones_like(slope_BHW[:1]))
        return list((self.how.per_cell(slope_BHW) / covered_1cc).cpu())


@dataclass(frozen=True)
class Optimise:
    """Masks of rows of Wish whose variants share the batch `how`; each answer has B = 1."""

    how: Undesirable

    def tokens(self, model: Model) -> int:
        """With gradients."""
        return gradient_tokens(model)

    def run(self, model: Model, rows: list[Wish], spent: Spent) -> list[Masks]:
        """All steps."""
        found = optimise(
            model,
            _images(model, [row.image_CHW for row in rows]),
            [row.target for row in rows],
            [row.variant for row in rows],
            [row.seed for row in rows],
            spent,
        )
        parts = [tensor.cpu().split(1) for tensor in found]
        return [Masks(*row) for row in zip(*parts, strict=True)]


def _images(model: Model, images: list[Tensor]) -> Tensor:
    return torch.stack(images).to(model.device, model.dtype)
