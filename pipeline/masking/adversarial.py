"""Adversarial fill: hidden pixels show the image changed to lower the model's own prediction.

PGD (Madry et al. 2018, arXiv:1706.06083), untargeted, from the clean image x, with c = argmax f(x):
x' <- clip(x' + step_size * sign(grad CE(f(x'), c))) to [x - epsilon, x + epsilon] and to [0, 1];
FGSM (Goodfellow et al. 2015, arXiv:1412.6572) is one such step of epsilon.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline import UsageError
from pipeline.engine import Listed, PerRow, Request, Spent
from pipeline.engine.device import to_device
from pipeline.masking.pixels import Filled, PixelMasking, gradient_tokens
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class Adversarial(PixelMasking):
    """`attack`: 'pgd' or 'fgsm'; `epsilon`, `step_size`: raw pixels of 0..1.

    `steps` and `step_size` belong to pgd; fgsm leaves them unread. There is no random start.
    """

    attack: str = "pgd"
    epsilon: float = 8 / 255
    steps: int = 10
    step_size: float = 2 / 255

    def __post_init__(self):
        if self.attack not in ("pgd", "fgsm"):
            raise UsageError(f"masking.attack={self.attack!r}: use 'pgd' or 'fgsm'")
        for name in ("epsilon", "steps", "step_size"):
            if getattr(self, name) <= 0:
                raise UsageError(f"masking.{name}={getattr(self, name)}: give a positive number")

    def begin(self, model: Model, image_CHW: Tensor, regions_HW: Tensor) -> Filled:
        """The image stands in for its fill until `prepare`."""
        return Filled(image_CHW, image_CHW, regions_HW.flatten())

    def prepare(self, model: Model, begun: Filled) -> Generator[Request, Any, Filled]:
        """Attack the image, in one batch with others."""
        (fill_CHW,) = yield Request(Attack(self), Listed([begun.image_CHW]))
        ready = yield from super().prepare(model, begun)
        return ready._replace(fill_CHW=fill_CHW.to(model.dtype))

    def fill(self, model: Model, image_CHW: Tensor) -> Tensor:
        """The whole image attacked (C, H, W), float32, on the model's device."""
        return self.attacked(model, to_device(image_CHW, model.device)[None])[0]

    def attacked(self, model: Model, images_BCHW: Tensor) -> Tensor:
        """Whole images attacked (B, C, H, W), float32; only forwards are in the model's dtype."""
        if model.output != "softmax":
            raise UsageError(
                f"masking.attack={self.attack}: it raises the cross entropy of a softmax, the "
                f"model has model.output={model.output}"
            )
        # in normalised pixels, a raw distance is scaled channel by channel, and signs are the same
        black, white = (to_device(model.normalise(grey), model.device) for grey in (0.0, 1.0))
        scale = white - black
        clean_BCHW = images_BCHW.float()
        low_BCHW = (clean_BCHW - self.epsilon * scale).clamp(black, white)
        high_BCHW = (clean_BCHW + self.epsilon * scale).clamp(black, white)
        with torch.no_grad():
            predicted_B = model.module(clean_BCHW.to(model.dtype)).argmax(1)
        x_BCHW = clean_BCHW
        for _ in range(self.passes):
            x_BCHW = x_BCHW.detach().requires_grad_()
            with torch.enable_grad():
                logits_BK = model.module(x_BCHW.to(model.dtype)).float()
                # summed: every image has its own gradient, whatever it shares the batch with
                cross_entropy(logits_BK, predicted_B, reduction="sum").backward(inputs=[x_BCHW])
            slope_BCHW = cast(Tensor, x_BCHW.grad)
            step = self.epsilon if self.attack == "fgsm" else self.step_size
            x_BCHW = x_BCHW.detach() + step * scale * slope_BCHW.sign()
            x_BCHW = x_BCHW.clamp(low_BCHW, high_BCHW)
        return x_BCHW

    @property
    def passes(self) -> int:
        """Steps, each a forward and a backward; one forward more makes the prediction."""
        return 1 if self.attack == "fgsm" else self.steps


@dataclass(frozen=True)
class Attack(PerRow):
    """Fills of rows of images (C, H, W), on the device."""

    how: Adversarial

    def lengths(self, model: Model, rows: Listed) -> int:
        """With gradients."""
        return gradient_tokens(model)

    def launch(self, model: Model, pieces: list[Listed], spent: Spent) -> Tensor:
        """All steps of all images."""
        images = [to_device(image_CHW, model.device) for piece in pieces for image_CHW in piece]
        fills_BCHW = self.how.attacked(model, torch.stack(images))
        spent(len(images) * (1 + self.how.passes))
        return fills_BCHW
