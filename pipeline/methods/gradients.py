"""Gradients of the target's output at many points of an image, summed where they are computed.

Memory is bounded by the engine's budget: a batch holds points of many images, and what comes back
of each image is a sum over its points.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.engine import Request, Spent
from pipeline.engine.device import to_device, to_host
from pipeline.masking.pixels import gradient_tokens
from pipeline.methods.readings import ROWS, Places, Read, target_outputs
from pipeline.models import Model


class Stepping(Protocol):
    """A frozen dataclass: a method whose heat is made of gradients at `forwards` points."""

    @property
    def read(self) -> Read:
        """What is differentiated."""
        ...

    @property
    def forwards(self) -> int:
        """How many points."""
        ...

    def points(self, model: Model, rows: Places) -> Tensor:
        """Normalised images (B, C, H, W) of these places, on the device."""
        ...

    def summed(self, model: Model, rows: Places, gradients_BCHW: Tensor) -> Tensor:
        """A sum over the places, of any shape."""
        ...


@dataclass(frozen=True)
class Gradients:
    """For each piece the method's sum over its points."""

    method: Stepping

    def lengths(self, model: Model, rows: Places) -> int:
        """Those of a whole image, with gradients."""
        return gradient_tokens(model)

    def launch(self, model: Model, pieces: list[Places], spent: Spent) -> list[Tensor]:
        """A forward and a backward a point."""
        x_BCHW = torch.cat([self.method.points(model, piece) for piece in pieces])
        targets = [piece.target for piece in pieces for _ in range(len(piece))]
        gradients_BCHW = input_gradients(model, x_BCHW, targets, self.method.read)
        parts = gradients_BCHW.split([len(piece) for piece in pieces])
        spent(len(targets))
        return [
            to_host(self.method.summed(model, piece, part_BCHW))
            for piece, part_BCHW in zip(pieces, parts, strict=True)
        ]

    def answer(self, landed: list[Tensor], pieces: list[Places]) -> list[Tensor]:
        """A sum a piece."""
        return landed

    def join(self, answers: list[Tensor], order: np.ndarray) -> Tensor:
        """Sums add up, in whatever order."""
        return torch.stack(answers).sum(0)


def input_gradients(model: Model, x_BCHW: Tensor, targets: list[int], read: Read) -> Tensor:
    """d y_t / d x of each image, y the logit or probability of its target, fp32 (B, C, H, W)."""
    with torch.enable_grad():
        x_BCHW = x_BCHW.detach().to(model.dtype).requires_grad_(True)
        y_B = target_outputs(model, model.module(x_BCHW), targets, read)
        # weights are frozen; autograd.grad and the engine's count of FLOPs exclude each other
        y_B.sum().backward()
    assert x_BCHW.grad is not None
    return x_BCHW.grad.float()


def mean_over_points(
    method: Stepping, image_CHW: Tensor, target: int
) -> Generator[Request, Any, Tensor]:
    """Coroutine: the mean over all points of what `summed` sums."""
    total: Any = 0.0
    for first in range(0, method.forwards, ROWS):
        places = np.arange(first, min(method.forwards, first + ROWS))
        total = total + (yield Request(Gradients(method), Places(image_CHW, target, places)))
    return total / method.forwards


def on_device(model: Model, rows: Places) -> Tensor:
    """The image itself, fp32 (C, H, W)."""
    return to_device(rows.image_CHW, model.device).float()
