"""What all pixel maskings share: hidden pixels are replaced by those of a fill image."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.masking import Part
from pipeline.models import Model

PIXELS_PER_TOKEN = 256


def image_tokens(model: Model) -> int:
    """What a whole image weighs in the engine's budget."""
    height, width = model.input_hw
    return max(1, height * width // PIXELS_PER_TOKEN)


def gradient_tokens(model: Model) -> int:
    """What it weighs where activations are kept for a backward pass."""
    return 3 * image_tokens(model)


class Prepared(NamedTuple):
    """One image, its fill and its regions, on the model's device."""

    image_CHW: Tensor
    fill_CHW: Tensor
    regions_P: Tensor  # P = H * W


class PixelMasking(ABC):
    """Replace hidden pixels; a subclass says by what."""

    @abstractmethod
    def fill(self, model: Model, image_CHW: Tensor) -> Tensor:
        """What hidden pixels show: normalised, broadcastable to (C, H, W)."""

    def prepare(self, model: Model, image_CHW: Tensor, regions_HW: Tensor) -> Prepared:
        """Place image, fill and regions on the device."""
        image_CHW = image_CHW.to(model.device, model.dtype, non_blocking=True)
        fill_CHW = self.fill(model, image_CHW).to(model.dtype).expand_as(image_CHW)
        return Prepared(image_CHW, fill_CHW, regions_HW.to(model.device).flatten())

    def lengths(self, model: Model, prepared: Prepared, coalitions_CN: Tensor) -> Tensor:
        """Every row is a whole image."""
        return torch.full((len(coalitions_CN),), image_tokens(model))

    def logits(self, model: Model, parts: list[Part]) -> Tensor:
        """Compose the masked images on the device and run the model on all of them."""
        height, width = model.input_hw
        rows = sum(len(coalitions) for _, coalitions in parts)
        x_BCHW = torch.empty(
            (rows, len(parts[0][0].image_CHW), height, width),
            device=model.device,
            dtype=model.dtype,
            memory_format=torch.channels_last,
        )
        start = 0
        for (image_CHW, fill_CHW, regions_P), coalitions_CN in parts:
            stop = start + len(coalitions_CN)
            visible = coalitions_CN.to(model.device, non_blocking=True)[:, regions_P]
            visible = visible.view(-1, 1, height, width)
            x_BCHW[start:stop] = torch.where(visible, image_CHW, fill_CHW)
            start = stop
        return model.module(x_BCHW)
