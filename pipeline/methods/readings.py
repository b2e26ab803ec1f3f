"""What the model says of altered copies of an image, for methods that look at many of them.

The rows of a request are places of one image's copies (a mask, a window, a step), so that those of
many images share batches.
"""

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.engine import Spent
from pipeline.engine.device import to_device, to_host
from pipeline.masking.pixels import image_tokens
from pipeline.models import Model

ROWS = 64
"""Rows of one request: what is in flight stays small, and batches are full all the same."""

Read = Literal["logit", "probability"]


class Places(NamedTuple):
    """Rows of one image, known by their `places`."""

    image_CHW: Tensor
    target: int
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def take(self, places: np.ndarray) -> "Places":
        """Some of the rows."""
        return Places(self.image_CHW, self.target, self.places[places])


def check_read(setting: str, read: str) -> None:
    """Raises UsageError for what is none."""
    if read not in ("logit", "probability"):
        raise UsageError(f"{setting}={read!r}: use 'logit' or 'probability'")


def target_outputs(model: Model, logits_BK: Tensor, targets: list[int], read: Read) -> Tensor:
    """Each row's logit or probability of its own target, fp32 (B,)."""
    y_BK = logits_BK.float()
    y_BK = y_BK if read == "logit" else model.probabilities(y_BK)
    index_B1 = to_device(torch.tensor(targets), logits_BK.device)[:, None]
    return y_BK.gather(1, index_B1)[:, 0]


class Readings(ABC):
    """A program that answers rows by the target's output; a subclass is a frozen dataclass with a
    `read` that says what each row shows."""

    read: Read

    @abstractmethod
    def shown(self, model: Model, piece: Any) -> Tensor:
        """Normalised images (B, C, H, W) of one image's rows, on the device."""

    def lengths(self, model: Model, rows: Any) -> int:
        """Every row is a whole image."""
        return image_tokens(model)

    def launch(self, model: Model, pieces: list[Any], spent: Spent) -> Tensor:
        """One forward a row."""
        targets = [piece.target for piece in pieces for _ in range(len(piece))]
        with torch.inference_mode():
            x_BCHW = torch.cat([self.shown(model, piece) for piece in pieces])
            logits_BK = model.logits(x_BCHW.to(model.dtype))
            y_B = to_host(target_outputs(model, logits_BK, targets, self.read))
        spent(len(targets))
        return y_B

    def answer(self, landed: Tensor, pieces: list[Any]) -> list[Tensor]:
        """Outputs (B,) of each piece."""
        return list(landed.split([len(piece) for piece in pieces]))

    def join(self, answers: list[Tensor], order: np.ndarray) -> Tensor:
        """In the order of the rows."""
        return torch.cat(answers)[torch.from_numpy(order)]
