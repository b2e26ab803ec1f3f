"""What all pixel maskings share: hidden pixels are replaced by those of a fill image."""

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.engine import Request
from pipeline.engine.device import to_device
from pipeline.masking import Shown
from pipeline.models import Model

PIXELS_PER_TOKEN = 256


def image_tokens(model: Model) -> int:
    """What a whole image weighs in the engine's budget."""
    height, width = model.input_hw
    return max(1, height * width // PIXELS_PER_TOKEN)


def gradient_tokens(model: Model) -> int:
    """What it weighs where activations are kept for a backward pass."""
    return 3 * image_tokens(model)


class Filled(NamedTuple):
    """One image, its fill, which may be a colour (C, 1, 1), and its regions."""

    image_CHW: Tensor
    fill_CHW: Tensor
    regions_P: Tensor  # P = H * W


class PixelMasking(ABC):
    """Replace hidden pixels; a subclass says by what."""

    @abstractmethod
    def fill(self, model: Model, image_CHW: Tensor) -> Tensor:
        """What hidden pixels show: normalised, broadcastable to (C, H, W), on the host."""

    def begin(self, model: Model, image_CHW: Tensor, regions_HW: Tensor) -> Filled:
        """Image, fill and regions, on the host."""
        return Filled(image_CHW, self.fill(model, image_CHW), regions_HW.flatten())

    def prepare(self, model: Model, begun: Filled) -> Generator[Request, Any, Filled]:
        """Place them on the device; asks nothing."""
        yield from ()
        image_CHW, fill_CHW, regions_P = (to_device(tensor, model.device) for tensor in begun)
        return Filled(image_CHW.to(model.dtype), fill_CHW.to(model.dtype), regions_P)

    def lengths(self, model: Model, prepared: Filled, coalitions_CN: Tensor) -> int:
        """Every row is a whole image."""
        return image_tokens(model)

    def encode(self, model: Model, parts: list[Shown]) -> Tensor:
        """Compose the masked images on the device and run the model on all of them."""
        return model.encode(self.compose(model, parts))

    def compose(self, model: Model, parts: list[Shown]) -> Tensor:
        """Masked images (B, C, H, W), in the model's dtype."""
        height, width = model.input_hw
        x_BCHW = torch.empty(
            (sum(map(len, parts)), len(parts[0].prepared.image_CHW), height, width),
            device=model.device,
            dtype=model.dtype,
            memory_format=torch.channels_last,
        )
        start = 0
        for (image_CHW, fill_CHW, regions_P), coalitions_CN in parts:
            stop = start + len(coalitions_CN)
            visible = to_device(coalitions_CN, model.device)[:, regions_P]
            x_BCHW[start:stop] = torch.where(
                visible.view(-1, 1, height, width), image_CHW, fill_CHW
            )
            start = stop
        return x_BCHW
