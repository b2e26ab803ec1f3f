"""Maskings: what the model sees of an image when only a coalition of players is visible.

A masking works in two steps, so that what belongs to the image alone is computed once:
`prepare(model, image_CHW, regions_HW)` returns whatever the masking needs of one image, and
`logits(model, parts)` answers rows of several prepared images in one device batch.
`lengths(model, prepared, coalitions_CN)` gives each row's cost in tokens (256 pixels of a pixel
masking count as one); only rows of equal length share a batch.
"""

from typing import Any, Protocol

from torch import Tensor

from pipeline.models import Model

Part = tuple[Any, Tensor]
"""One prepared image and the coalitions (C, N) of it that belong to the batch, True = visible."""


class Masking(Protocol):
    """See the module's docstring."""

    def prepare(self, model: Model, image_CHW: Tensor, regions_HW: Tensor) -> Any:
        """What the masking needs of one image, on the device."""
        ...

    def lengths(self, model: Model, prepared: Any, coalitions_CN: Tensor) -> Tensor:
        """Tokens of each row, int64 (C,)."""
        ...

    def logits(self, model: Model, parts: list[Part]) -> Tensor:
        """Logits (B, K) of all parts' coalitions, in order."""
        ...
