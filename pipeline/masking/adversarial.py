"""Adversarial fill: hidden pixels show the image changed to lower the model's own prediction.

PGD (Madry et al. 2018, arXiv:1706.06083), untargeted, from the clean image x, with c = argmax f(x):
x' <- clip(x' + step_size * sign(grad CE(f(x'), c))) to [x - epsilon, x + epsilon] and to [0, 1];
FGSM (Goodfellow et al. 2015, arXiv:1412.6572) is one such step of epsilon.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline import UsageError
from pipeline.masking.pixels import PixelMasking
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

    def fill(self, model: Model, image_CHW: Tensor) -> Tensor:
        """The whole image attacked (C, H, W), float32; only the forward is in the model's dtype."""
        fgsm = self.attack == "fgsm"
        steps, step = (1, self.epsilon) if fgsm else (self.steps, self.step_size)
        # in normalised pixels, a raw distance is scaled channel by channel, and signs are the same
        black, white = (model.normalise(grey) for grey in (0.0, 1.0))
        scale = white - black
        clean_CHW = image_CHW.to(model.device, torch.float32)
        low_CHW = (clean_CHW - self.epsilon * scale).clamp(black, white)
        high_CHW = (clean_CHW + self.epsilon * scale).clamp(black, white)
        predicted_B = model.module(clean_CHW[None].to(model.dtype)).argmax(1)
        x_CHW = clean_CHW
        for _ in range(steps):
            x_CHW = x_CHW.detach().requires_grad_()
            with torch.enable_grad():
                logits_BK = model.module(x_CHW[None].to(model.dtype)).float()
                (slope_CHW,) = torch.autograd.grad(cross_entropy(logits_BK, predicted_B), x_CHW)
            x_CHW = x_CHW.detach() + step * scale * slope_CHW.sign()
            x_CHW = x_CHW.clamp(low_CHW, high_CHW)
        return x_CHW
