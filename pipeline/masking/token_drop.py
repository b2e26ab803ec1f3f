"""Token drop: a Vision Transformer simply does not get the hidden patches' tokens (MoXI, Sec. 4).

The image is embedded once, position embeddings added; rows gather [prefix tokens, visible tokens],
so kept tokens keep their positions. Dropping a token equals hiding it from every layer's attention.
The empty coalition is the prefix alone (class, distillation, register tokens). A classifier that
reads prefix tokens only needs no others from its last block: 7 % of a ViT-T's work.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from pipeline import UsageError
from pipeline.masking import Part
from pipeline.models import Model


class Prepared(NamedTuple):
    """One image's tokens with positions, (prefix + L, D), and the player of each patch token."""

    tokens_LD: Tensor
    player_L: Tensor


@dataclass(frozen=True, kw_only=True)
class TokenDrop:
    """No settings. Needs a plain ViT (ViT, DeiT, AugReg, DINO, CLIP, with or without registers)."""

    def prepare(self, model: Model, image_CHW: Tensor, regions_HW: Tensor) -> Prepared:
        """Embed the image. Raises UsageError for other models and players that cut patches."""
        vit = _plain_vit(model)
        player_L = token_players(regions_HW, vit.patch_embed.patch_size)
        image_BCHW = image_CHW[None].to(model.device, model.dtype, non_blocking=True)
        tokens_BLD = vit.norm_pre(vit._pos_embed(vit.patch_embed(image_BCHW)))
        return Prepared(tokens_BLD[0], player_L)

    def lengths(self, model: Model, prepared: Prepared, coalitions_CN: Tensor) -> Tensor:
        """Prefix and visible tokens of each row."""
        visible_CL = coalitions_CN[:, prepared.player_L]
        return visible_CL.sum(1) + cast(int, model.module.num_prefix_tokens)

    def logits(self, model: Model, parts: list[Part]) -> Tensor:
        """Gather the tokens of rows of one length and run the blocks on them."""
        vit: Any = model.module
        prefix = vit.num_prefix_tokens
        x_BLD = torch.cat(
            [
                prepared.tokens_LD[_places(coalitions_CN, prepared, prefix).to(model.device)]
                for prepared, coalitions_CN in parts
            ]
        )
        if x_BLD.shape[1] == prefix and vit.global_pool != "token":
            if vit.attn_pool is not None:
                raise ValueError("the model has nothing to pool where every patch is dropped")
            # an average over no patches: nothing is seen, so the pooled feature is zero
            pooled_BD = x_BLD.new_zeros(len(x_BLD), x_BLD.shape[2])
            return vit.head(vit.head_drop(vit.fc_norm(pooled_BD)))
        x_BLD = vit.blocks[:-1](x_BLD)
        last = vit.blocks[-1]
        reads_prefix = vit.global_pool == "token" and vit.attn_pool is None
        if reads_prefix and _is_plain(last):
            x_BLD = _first_tokens(last, x_BLD, prefix)
        else:
            x_BLD = last(x_BLD)
        return vit.forward_head(vit.norm(x_BLD))


def token_players(regions_HW: Tensor, patch_hw: tuple[int, int]) -> Tensor:
    """Player of each patch token, int64 (L,), CPU. Raises UsageError where players cut one."""
    height, width = patch_hw
    regions_HW = regions_HW.cpu()
    tiles_LP = (
        regions_HW.unfold(0, height, height).unfold(1, width, width).reshape(-1, height * width)
    )
    if not torch.equal(tiles_LP.amin(1), tiles_LP.amax(1)):
        rows = regions_HW.shape[0] // height
        fits = [g for g in range(1, rows + 1) if rows % g == 0]
        raise UsageError(
            f"token_drop: players cut through the model's {height}x{width} patches; "
            f"use players.grid from {fits}, or a pixel masking (zero, mean, blur, black)"
        )
    return tiles_LP[:, 0]


def _places(coalitions_CN: Tensor, prepared: Prepared, prefix: int) -> Tensor:
    """Which tokens each row keeps, (C, length)."""
    visible_CL = coalitions_CN[:, prepared.player_L]
    kept_CL = visible_CL.nonzero()[:, 1].view(len(visible_CL), -1) + prefix
    return torch.cat([torch.arange(prefix).expand(len(visible_CL), -1), kept_CL], 1)


def _is_plain(block: Any) -> bool:
    plain = type(block) is Block and type(block.attn) is Attention
    return plain and getattr(block.attn, "gate", None) is None


def _first_tokens(block: Any, x_BLD: Tensor, count: int) -> Tensor:
    """What a block in eval mode makes of its first `count` tokens, which attend to all of them."""
    attn = block.attn
    D = attn.qkv.weight.shape[0] // 3
    bias_Q, bias_KV = (None, None) if attn.qkv.bias is None else attn.qkv.bias.split([D, 2 * D])

    def heads(y_BLD: Tensor) -> Tensor:
        return y_BLD.unflatten(2, (attn.num_heads, -1)).transpose(1, 2)

    y_BLD, x_BLD = block.norm1(x_BLD), x_BLD[:, :count]
    q_BLD = linear(y_BLD[:, :count], attn.qkv.weight[:D], bias_Q)
    k_BLD, v_BLD = linear(y_BLD, attn.qkv.weight[D:], bias_KV).chunk(2, 2)
    seen_BHLd = scaled_dot_product_attention(
        attn.q_norm(heads(q_BLD)), attn.k_norm(heads(k_BLD)), heads(v_BLD)
    )
    seen_BLD = seen_BHLd.transpose(1, 2).flatten(2)
    x_BLD = x_BLD + block.ls1(attn.proj(attn.norm(seen_BLD)))
    return x_BLD + block.ls2(block.mlp(block.norm2(x_BLD)))


def _plain_vit(model: Model) -> Any:
    vit = model.module
    own = type(vit).forward_features is not VisionTransformer.forward_features
    if not isinstance(vit, VisionTransformer) or own:
        raise UsageError(
            f"token_drop: {type(vit).__name__} is no plain Vision Transformer, so tokens cannot be "
            "dropped (windows, convolutions mix them); use masking=zero, mean, blur or black"
        )
    return vit
