"""Attention relevance (Chefer et al., ICCV 2021), for self-attention: attention that its gradient
favours, followed through all layers.

R = I; layer by layer R <- R + A' R, A' = mean over heads of relu(A * d z_t / d A) (equations 5, 6).
The heat of a patch is its share in the class token's row.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.game import OBJECTIVES, Game
from pipeline.methods import Coroutine
from pipeline.methods.heatmaps import HeatRequest, by_heat, gradient_heat
from pipeline.methods.rollout import attention, patch_heat, plain_vit
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class AttentionRelevance:
    """No settings. Needs a plain ViT, as rollout does; where the head does not read the class
    token, the mean row of the tokens that it pools counts."""

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def most_forwards(self, n_players: int) -> int:
        """One, with a backward."""
        return 1

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        return (yield from by_heat(self, game))

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Batched with other images."""
        return (yield from gradient_heat(self, image_CHW, target))

    def heatmaps(self, model: Model, images_BCHW: Tensor, targets: list[int]) -> Tensor:
        """Maps (B, H, W), constant on each patch, maximum 1. Raises UsageError for other models."""
        vit = plain_vit(model, "chefer")
        layers: list[Tensor] = []

        def keep(attention_BhLL: Tensor) -> None:
            attention_BhLL.retain_grad()
            layers.append(attention_BhLL)

        with torch.enable_grad(), attention(vit, keep):
            # weights are frozen, so the graph starts at the input
            logits_BK = vit(images_BCHW.detach().requires_grad_(True))
            logits_BK[range(len(targets)), targets].float().sum().backward()
        return patch_heat(model, relevance(layers))


def relevance(layers_BhLL: list[Tensor]) -> Tensor:
    """R (B, L, L) of each layer's attention, which has its gradient, first layer first."""
    size = layers_BhLL[0].shape[-1]
    relevance_BLL = torch.eye(size, device=layers_BhLL[0].device)
    for attention_BhLL in layers_BhLL:
        assert attention_BhLL.grad is not None
        favoured_BhLL = attention_BhLL.detach().float() * attention_BhLL.grad.float()
        relevance_BLL = relevance_BLL + favoured_BhLL.relu().mean(1) @ relevance_BLL
    return relevance_BLL
