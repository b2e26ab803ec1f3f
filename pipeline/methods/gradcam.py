"""Grad-CAM (Selvaraju et al., ICCV 2017), by torchcam.

The last feature map, its channels weighted by their mean gradient of the target's logit, rectified.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchcam.methods import GradCAM

from pipeline.methods import OBJECTIVES, Objective
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class GradCam:
    """No settings; the layer is the model's `feature_layer`."""

    searches: ClassVar[bool] = False

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """One order serves both."""
        return OBJECTIVES

    def evaluations(self, n_players: int, objectives: Sequence[Objective]) -> int:
        """One forward, and one backward."""
        return 1

    def heatmaps(self, model: Model, images_BCHW: Tensor, targets: list[int]) -> Tensor:
        """Maps (B, H, W), bilinear from the layer's resolution, 0 to 1; one forward an image."""
        with torch.enable_grad(), GradCAM(model.module, model.feature_layer) as cam:
            # weights are frozen, so the graph starts at the input
            logits_BK = model.module(images_BCHW.requires_grad_(True))
            (maps_Bhw,) = cam(targets, logits_BK)
        maps_BHW = interpolate(
            maps_Bhw[:, None].float(), model.input_hw, mode="bilinear", align_corners=False
        )
        return maps_BHW[:, 0].detach()
