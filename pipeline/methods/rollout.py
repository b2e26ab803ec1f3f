"""Attention rollout (Abnar & Zuidema, ACL 2020): attention followed through all layers.

R = A~_L ... A~_1, where A~_l is A_l, averaged over heads, plus I, rows divided by their sums; the
heat of a patch is its share in the class token's row. Every target class gets the same map.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline import UsageError
from pipeline.game import OBJECTIVES, Game
from pipeline.methods import Coroutine
from pipeline.methods.heatmaps import HeatRequest, by_heat, gradient_heat
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """No settings. Needs a plain ViT (ViT, DeiT, AugReg, DINO, CLIP, with or without registers).

    Where the head does not read the class token, the mean row of the tokens that it pools counts.
    """

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def most_forwards(self, n_players: int) -> int:
        """One forward."""
        return 1

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        return (yield from by_heat(self, game))

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Batched with other images."""
        return (yield from gradient_heat(self, image_CHW, target))

    def heatmaps(self, model: Model, images_BCHW: Tensor, targets: list[int]) -> Tensor:
        """Maps (B, H, W), constant on each patch, maximum 1. Raises UsageError for other models."""
        vit = _plain_vit(model)
        with torch.inference_mode(), _attention(vit) as layers_BLL:
            vit(images_BCHW)
            rollout_BLL = joint_attention(layers_BLL)
        prefix = vit.num_prefix_tokens
        if vit.global_pool == "token":
            row_BL = rollout_BLL[:, 0]
        else:
            row_BL = rollout_BLL[:, 0 if vit.pool_include_prefix else prefix :].mean(1)
        heat_BL = row_BL[:, prefix:]
        heat_BL = heat_BL / heat_BL.amax(1, keepdim=True)
        grid_hw = vit.patch_embed.dynamic_feat_size(model.input_hw)
        # nearest: a bilinear map would blend neighbours into a patch's mean
        return interpolate(heat_BL.unflatten(1, grid_hw)[:, None], model.input_hw)[:, 0]


def joint_attention(layers_BLL: Sequence[Tensor]) -> Tensor:
    """Rollout matrix (B, L, L) of head-averaged attention by layer, first layer first.

    Row i holds how much of each input token reaches token i; rows sum to one.
    """
    identity_LL = torch.eye(layers_BLL[0].shape[-1], device=layers_BLL[0].device)
    rollout_BLL = identity_LL
    for attention_BLL in layers_BLL:
        mixed_BLL = attention_BLL + identity_LL
        rollout_BLL = mixed_BLL / mixed_BLL.sum(-1, keepdim=True) @ rollout_BLL
    return rollout_BLL


@contextmanager
def _attention(vit: Any) -> Iterator[list[Tensor]]:
    """Collects each layer's attention, mean over heads, fp32 (B, L, L), while the model runs."""
    layers_BLL: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        layers_BLL.append(inputs[0].float().mean(1))

    with ExitStack() as stack:
        for block in vit.blocks:
            # fused attention never forms the matrix; the plain path hands it to its dropout
            stack.callback(setattr, block.attn, "fused_attn", block.attn.fused_attn)
            block.attn.fused_attn = False
            stack.enter_context(block.attn.attn_drop.register_forward_pre_hook(keep))
        yield layers_BLL


def _plain_vit(model: Model) -> Any:
    vit: Any = model.module
    plain = (
        isinstance(vit, VisionTransformer)
        and type(vit).forward_features is VisionTransformer.forward_features
        and all(isinstance(getattr(block, "attn", None), Attention) for block in vit.blocks)
    )
    if not plain:
        raise UsageError(
            f"rollout: {type(vit).__name__} is no plain Vision Transformer with softmax attention "
            "over all tokens, so there is nothing to roll out; use methods=[gradcam]"
        )
    return vit
