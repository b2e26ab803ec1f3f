"""What masks ask of the engine: plain and masked forwards, saliency, optimisation."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.engine import Listed, PerRow, Spent
from pipeline.engine.device import to_device, to_host
from pipeline.masking.pixels import gradient_tokens, image_tokens
from pipeline.methods.undesirable import Masks, Undesirable, optimise
from pipeline.models import Model


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
class Look(PerRow):
    """Logits (K,) of rows of Seen; `how` says how masks are enlarged and what blur is."""

    how: Undesirable

    def lengths(self, model: Model, rows: Listed) -> int:
        """Those of the image."""
        return image_tokens(model)

    def launch(self, model: Model, pieces: list[Listed], spent: Spent) -> Tensor:
        """One forward."""
        rows: list[Seen] = [row for piece in pieces for row in piece]
        images_BCHW = _images(model, [row.image_CHW for row in rows])
        masks_Bcc = to_device(torch.stack([row.mask_cc for row in rows]), model.device)
        with torch.inference_mode():
            blurred_BCHW = self.how.blur(images_BCHW)
            logits_BK = model.module(self.how.perturb(images_BCHW, blurred_BCHW, masks_Bcc))
        spent(len(rows))
        return to_host(logits_BK)


@dataclass(frozen=True)
class Saliency(PerRow):
    """Mean over a cell's pixels of max over channels of |d f_k / dX|, (cells, cells); rows are
    (image, target) (Simonyan et al., 2014). `how` says which pixels a cell covers, and how much."""

    how: Undesirable

    def lengths(self, model: Model, rows: Listed) -> int:
        """With gradients."""
        return gradient_tokens(model)

    def launch(self, model: Model, pieces: list[Listed], spent: Spent) -> Tensor:
        """One forward, one backward."""
        rows: list[tuple[Tensor, int]] = [row for piece in pieces for row in piece]
        images_BCHW = _images(model, [image for image, _ in rows]).requires_grad_(True)
        target_B1 = to_device(torch.tensor([[target] for _, target in rows]), model.device)
        with torch.enable_grad():
            probability_B1 = model.module(images_BCHW).softmax(1).gather(1, target_B1)
            probability_B1.sum().backward()
        spent(len(rows))
        assert images_BCHW.grad is not None
        slope_BHW = images_BCHW.grad.abs().amax(1)
        covered_1cc = self.how.per_cell(torch.ones_like(slope_BHW[:1]))
        return to_host(self.how.per_cell(slope_BHW) / covered_1cc)


@dataclass(frozen=True)
class Optimise(PerRow):
    """Masks of rows of Wish whose variants share the batch `how`; each answer has B = 1."""

    how: Undesirable

    def lengths(self, model: Model, rows: Listed) -> int:
        """With gradients."""
        return gradient_tokens(model)

    def launch(self, model: Model, pieces: list[Listed], spent: Spent) -> list[Masks]:
        """All steps."""
        rows: list[Wish] = [row for piece in pieces for row in piece]
        found = optimise(
            model,
            _images(model, [row.image_CHW for row in rows]),
            [row.target for row in rows],
            [row.variant for row in rows],
            [row.seed for row in rows],
            spent,
        )
        parts = [to_host(tensor).split(1) for tensor in found]
        return [Masks(*row) for row in zip(*parts, strict=True)]


def _images(model: Model, images: list[Tensor]) -> Tensor:
    return torch.stack([to_device(image, model.device) for image in images]).to(model.dtype)
