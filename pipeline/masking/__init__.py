"""Maskings: what the model sees of an image when only a coalition of players is visible.

What belongs to the image alone is made once, in two steps: `begin` on the host, on a thread beside
the engine's, and `prepare` where the model is needed, as a coroutine whose requests share batches.
`encode` then answers rows of several prepared images in one device batch.
"""

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from pipeline.engine import Request
from pipeline.models import Model


class Shown(NamedTuple):
    """Rows of a batch: coalitions (C, N) of one prepared image, True = visible, on the host."""

    prepared: Any
    coalitions_CN: Tensor

    def __len__(self) -> int:
        return len(self.coalitions_CN)


class Masking(Protocol):
    """See the module's docstring. Maskings are frozen dataclasses: equal ones share batches."""

    def begin(self, model: Model, image_CHW: Tensor, regions_HW: Tensor) -> Any:
        """What can be made of one normalised image and its players without running the model."""
        ...

    def prepare(self, model: Model, begun: Any) -> Generator[Request, Any, Any]:
        """Coroutine: asks the engine for what needs the model; returns what `encode` needs."""
        ...

    def lengths(self, model: Model, prepared: Any, coalitions_CN: Tensor) -> int | np.ndarray:
        """Tokens of each row (256 pixels of a pixel masking count as one), or of all; only rows of
        equal length share a batch."""
        ...

    def encode(self, model: Model, parts: list[Shown]) -> Tensor:
        """Features (B, D), before the classifier, of all rows; on a GPU without waiting for it."""
        ...
