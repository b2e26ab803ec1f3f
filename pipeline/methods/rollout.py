"""Attention rollout (Abnar & Zuidema, ACL 2020): attention followed through all layers.

R = A~_L ... A~_1, where A~_l is A_l, averaged over heads, plus I, rows divided by their sums; the
heat of a patch is its share in the class token's row. Every target class gets the same map.
"""

from collections.abc import Callable, Iterator, Sequence
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
        vit = plain_vit(model, "rollout")
        layers_BLL: list[Tensor] = []

        def keep(attention_BhLL: Tensor) -> None:
            layers_BLL.append(attention_BhLL.float().mean(1))

        with torch.inference_mode(), attention(vit, keep):
            vit(images_BCHW)
            return patch_heat(model, joint_attention(layers_BLL))


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


def patch_heat(model: Model, relevance_BLL: Tensor) -> Tensor:
    """Maps (B, H, W), constant on each patch, maximum 1, of how much each patch counts for what the
    head reads: a row of the matrix, or the mean row of the tokens that are pooled."""
    vit: Any = model.module
    prefix = vit.num_prefix_tokens
    if vit.global_pool == "token":
        row_BL = relevance_BLL[:, 0]
    else:
        row_BL = relevance_BLL[:, 0 if vit.pool_include_prefix else prefix :].mean(1)
    heat_BL = row_BL[:, prefix:]
    heat_BL = heat_BL / heat_BL.amax(1, keepdim=True)
    grid_hw = vit.patch_embed.dynamic_feat_size(model.input_hw)
    # nearest: a bilinear map would blend neighbours into a patch's mean
    return interpolate(heat_BL.unflatten(1, grid_hw)[:, None], model.input_hw)[:, 0]


@contextmanager
def attention(vit: Any, keep: Callable[[Tensor], None]) -> Iterator[None]:
    """While the model runs, `keep` is given each layer's attention (B, heads, L, L), in order."""

    def hand_over(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        keep(inputs[0])

    with ExitStack() as stack:
        for block in vit.blocks:
            # fused attention never forms the matrix; the plain path hands it to its dropout
            stack.callback(setattr, block.attn, "fused_attn", block.attn.fused_attn)
            block.attn.fused_attn = False
            stack.enter_context(block.attn.attn_drop.register_forward_pre_hook(hand_over))
        yield


def plain_vit(model: Model, method: str) -> Any:
    """The module. Raises UsageError, which names the method, for what is no plain ViT."""
    vit: Any = model.module
    plain = (
        isinstance(vit, VisionTransformer)
        and type(vit).forward_features is VisionTransformer.forward_features
        and all(isinstance(getattr(block, "attn", None), Attention) for block in vit.blocks)
    )
    if not plain:
        raise UsageError(
            f"{method}: {type(vit).__name__} is no plain Vision Transformer with softmax attention "
            "over all tokens, so there is none to follow; use methods=[gradcam]"
        )
    return vit
