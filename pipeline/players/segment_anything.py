"""Masks of Segment Anything (Kirillov et al., ICCV 2023), made disjoint as in SMDL-Attribution."""

import os
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.identity import with_changes
from pipeline.players import View, stand_in
from pipeline.players.masks import disjoint

_turn = threading.Lock()
"""A generator holds the image that it works on: one at a time."""


@dataclass(frozen=True, kw_only=True)
class SegmentAnything:
    """Regions that SamAutomaticMaskGenerator finds, and one of all that no mask covers.

    `checkpoint`: the weights of `network`, a .pth file of Meta's; its path is part of a row's
    address. Segmented is the image as the model sees it (SMDL-Attribution: the file, at its own
    resolution). The network is loaded once a process, on the GPU where there is one; its forwards
    are not counted, and rows keep its regions.
    """

    checkpoint: str
    network: Literal["vit_h", "vit_l", "vit_b"] = "vit_h"
    stability_score_thresh: float = 0.8

    kept: ClassVar[bool] = True

    def __str__(self) -> str:
        return with_changes(self, f"sam_{self.network}", said=("checkpoint", "network"))

    def __call__(self, view: View, heat_HW: Tensor | None = None) -> Tensor:
        """Regions (H, W). Raises UsageError where package or checkpoint are missing."""
        if view.blank:
            _package()
            self._check()
            return stand_in(view)
        with _turn:
            generator = _generator(self)
            found = generator.generate(np.ascontiguousarray(view.pixels_HWC))
        masks = [mask["segmentation"] for mask in found]
        return disjoint(np.array(masks, bool).reshape(-1, *view.image_CHW.shape[-2:]))

    def _check(self) -> None:
        if not os.path.isfile(self.checkpoint):
            raise UsageError(
                f"players.checkpoint={self.checkpoint}: no such file; download Segment Anything's "
                f"{self.network} weights and name the .pth"
            )


@cache
def _generator(players: SegmentAnything) -> Any:
    """The network with its weights."""
    sam = _package()
    players._check()
    network = sam.sam_model_registry[players.network]()
    try:
        network.load_state_dict(torch.load(players.checkpoint, "cpu", weights_only=True))
    except Exception as error:  # of a file that is no checkpoint, of another network's
        said = " ".join(str(error).split())[:200]
        raise UsageError(
            f"players.checkpoint={players.checkpoint} holds no weights of {players.network}: {said}"
        ) from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return sam.SamAutomaticMaskGenerator(
        network.to(device), stability_score_thresh=players.stability_score_thresh
    )


def _package() -> Any:
    try:
        import segment_anything  # type: ignore[import-not-found]
    except ImportError as error:
        raise UsageError(
            f"players: Segment Anything is not installed ({error}): "
            "pip install 'pixel-quorum[segment-anything]'"
        ) from None
    return segment_anything
