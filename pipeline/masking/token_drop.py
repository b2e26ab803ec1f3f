"""Token drop: a Vision Transformer simply does not get the hidden patches' tokens (MoXI, Sec. 4).

The image is embedded once, position embeddings added; rows gather [prefix tokens, visible tokens],
so kept tokens keep their positions. Dropping a token equals hiding it from every layer's attention.
The empty coalition is the prefix alone (class, distillation, register tokens). A classifier that
reads prefix tokens only needs no others from its last block: 7 % of a ViT-T's work.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from pipeline import UsageError
from pipeline.engine import Listed, PerRow, Request, Spent
from pipeline.engine.device import to_device
from pipeline.masking import Shown
from pipeline.masking.pixels import image_tokens
from pipeline.models import Model


class Begun(NamedTuple):
    """An image (C, H, W) and the player of each patch token (L,), on the host."""

    image_CHW: Tensor
    player_L: Tensor


class Embedded(NamedTuple):
    """One image's tokens with positions, (prefix + L, D), on the device; the player of each patch
    token there, and on the host; how many tokens each player holds (N,), float32, whose products
    are fast."""

    tokens_LD: Tensor
    player_L: Tensor
    holder_L: np.ndarray
    held_N: np.ndarray


@dataclass(frozen=True, kw_only=True)
class TokenDrop:
    """No settings. Needs a plain ViT (ViT, DeiT, AugReg, DINO, CLIP, with or without registers)."""

    def begin(self, model: Model, image_CHW: Tensor, regions_HW: Tensor) -> Begun:
        """Raises UsageError for models of other kinds and players that cut patches."""
        vit = plain_vit(model)
        return Begun(image_CHW, token_players(regions_HW, vit.patch_embed.patch_size))

    def prepare(self, model: Model, begun: Begun) -> Generator[Request, Any, Embedded]:
        """Embed the image, in one batch with others."""
        (tokens_LD,) = yield Request(Embed(), Listed([begun.image_CHW]))
        held_N = begun.player_L.bincount().numpy().astype(np.float32)
        player_L = begun.player_L
        return Embedded(tokens_LD, to_device(player_L, model.device), player_L.numpy(), held_N)

    def lengths(self, model: Model, prepared: Embedded, coalitions_CN: Tensor) -> int | np.ndarray:
        """Prefix and visible tokens of each row."""
        prefix = int(model.module.num_prefix_tokens)  # type: ignore[arg-type]
        visible_C = coalitions_CN.numpy() @ prepared.held_N
        same = (visible_C == visible_C[0]).all()
        return int(visible_C[0]) + prefix if same else visible_C.astype(int) + prefix

    def encode(self, model: Model, parts: list[Shown]) -> Tensor:
        """Gather the tokens of rows of one length and run the blocks on them."""
        vit: Any = model.body  # its head is what comes between pooling and features, if anything
        prefix, first = vit.num_prefix_tokens, parts[0]
        length = int(first.coalitions_CN[0].numpy() @ first.prepared.held_N)
        x_BLD = torch.cat([_kept(*part, prefix=prefix, length=length) for part in parts])
        if not length and vit.global_pool != "token":
            if vit.attn_pool is not None:
                raise ValueError("the model has nothing to pool where every patch is dropped")
            # an average over no patches: nothing is seen, so the pooled feature is zero
            return vit.head(vit.fc_norm(x_BLD.new_zeros(len(x_BLD), x_BLD.shape[2])))
        x_BLD = vit.blocks[:-1](x_BLD)
        last = vit.blocks[-1]
        reads_prefix = vit.global_pool == "token" and vit.attn_pool is None
        if reads_prefix and is_plain(last):
            x_BLD = first_tokens(last, x_BLD, prefix)
        else:
            x_BLD = last(x_BLD)
        return vit.forward_head(vit.norm(x_BLD))


@dataclass(frozen=True)
class Embed(PerRow):
    """Tokens with positions (prefix + L, D), on the device, of rows of images (C, H, W)."""

    def lengths(self, model: Model, rows: Listed) -> int:
        """Those of the image."""
        return image_tokens(model)

    def launch(self, model: Model, pieces: list[Listed], spent: Spent) -> Tensor:
        """No forward: the blocks are left out."""
        vit: Any = model.module
        images = [to_device(image_CHW, model.device) for piece in pieces for image_CHW in piece]
        with torch.inference_mode():
            x_BCHW = torch.stack(images).to(model.dtype)
            return vit.norm_pre(vit._pos_embed(vit.patch_embed(x_BCHW)))


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


def _kept(prepared: Embedded, coalitions_CN: Tensor, *, prefix: int, length: int) -> Tensor:
    """The tokens that each row keeps, (C, prefix + length, D)."""
    tokens_LD = prepared.tokens_LD
    visible_CL = to_device(coalitions_CN, tokens_LD.device)[:, prepared.player_L]
    if tokens_LD.device.type == "cpu":
        kept_CL = visible_CL.nonzero()[:, 1].view(len(visible_CL), length)
    else:  # the same without asking the device how many there are
        every_CL = torch.arange(visible_CL.shape[1], device=tokens_LD.device).expand_as(visible_CL)
        slot_CL = torch.where(visible_CL, visible_CL.cumsum(1) - 1, length)
        kept_CL = every_CL.new_empty(len(visible_CL), length + 1)
        kept_CL = kept_CL.scatter_(1, slot_CL, every_CL)[:, :length]
    first_CL = torch.arange(prefix, device=tokens_LD.device).expand(len(visible_CL), -1)
    return tokens_LD[torch.cat([first_CL, kept_CL + prefix], 1)]


def is_plain(block: Any) -> bool:
    """Whether a block is timm's own, with its own attention and no gate."""
    plain = type(block) is Block and type(block.attn) is Attention
    return plain and getattr(block.attn, "gate", None) is None


def first_tokens(block: Any, x_BLD: Tensor, count: int) -> Tensor:
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


def plain_vit(model: Model) -> Any:
    """The network. Raises UsageError for one that mixes tokens by other means than attention."""
    vit = model.module
    own = type(vit).forward_features is not VisionTransformer.forward_features
    if not isinstance(vit, VisionTransformer) or own:
        raise UsageError(
            f"token_drop: {type(vit).__name__} is no plain Vision Transformer, so tokens cannot be "
            "dropped (windows, convolutions mix them); use masking=zero, mean, blur or black"
        )
    return vit
