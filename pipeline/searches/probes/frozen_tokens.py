"""A Vision Transformer's answers to all toggles of one player, from one masked pass.

Rows are a set and one player more (or less) each. The set's tokens attend to each other and are
frozen: what a candidate would change in them is left out. Each candidate's tokens and prefix tokens
of its own (class, registers) attend to them and to each other; where players are taken away, prefix
tokens of their own skip the player's. Behind the first blocks, a `share` of them, each row goes on
with copies of the tokens that it sees. From the empty set nothing is left out: the answer is exact.
"""

from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pipeline import UsageError
from pipeline.engine import Listed, Request, Spent
from pipeline.engine.device import to_device
from pipeline.game import Coalitions, Outputs, Seat
from pipeline.game.sets import Hands, Landed, SetGame
from pipeline.masking import Shown
from pipeline.masking.token_drop import Embedded, TokenDrop, first_tokens, is_plain, plain_vit
from pipeline.models import Model


@dataclass(frozen=True)
class Probed:
    """A question: what a probe thinks that coalitions are answered, counted as one."""

    asked: Coalitions
    share: float = 1.0
    sets = 1

    def at(self, seat: Seat) -> Request:
        """The same rows of another program. Raises UsageError for maskings but token_drop."""
        request = seat.request(self.asked)
        if not isinstance(request.program.masking, TokenDrop):
            raise UsageError("frozen keys and values need masking=token_drop")
        return Request(FrozenGame(Frozen(self.share)), Listed([request.rows]))


@dataclass(frozen=True)
class FrozenGame(SetGame):
    """An image's coalitions are one row, a `Hands`, and cost one forward."""

    def lengths(self, model: Model, rows: Listed) -> int:
        """Of the whole pass."""
        return self.masking.tokens(model, *rows[0][:2])  # type: ignore[attr-defined]

    def launch(self, model: Model, pieces: list[Listed], spent: Spent) -> Landed:
        """As set games do."""
        return super().launch(model, _hands(pieces), lambda rows: spent(len(pieces)))

    def answer(self, landed: Landed, pieces: list[Listed]) -> list[Outputs]:
        """A piece is one image."""
        return super().answer(landed, _hands(pieces))


def _hands(pieces: list[Listed]) -> list[Hands]:
    return [hands for (hands,) in pieces]


class Toggles(NamedTuple):
    """A set that coalitions differ from by a player each: its visible patches (L,), the patches of
    each row's player (C, L), and whether it is added."""

    visible_L: np.ndarray
    own_CL: np.ndarray
    added: bool


@dataclass(frozen=True)
class Frozen(TokenDrop):
    """The masking's stand-in. `share`: of the blocks, the first ones, with frozen tokens."""

    share: float = 1.0

    def tokens(self, model: Model, prepared: Embedded, coalitions_CN: Tensor) -> int:
        """Of all rows; the set's are shared between them where they are frozen."""
        prefix = int(model.module.num_prefix_tokens)  # type: ignore[arg-type]
        found = toggles(prepared, coalitions_CN)
        own, visible = int(found.own_CL[0].sum()), int(found.visible_L.sum())
        depth = len(model.body.blocks)  # type: ignore[arg-type]
        frozen = self._frozen(depth) / depth
        group = prefix + (own if found.added else 0)
        copied = (visible if found.added else visible - own) * (1 - frozen)
        shared = (prefix + visible) * frozen
        return ceil(len(coalitions_CN) * (group + copied) + shared - 1e-9)

    def encode(self, model: Model, parts: list[Shown]) -> Tensor:
        """Features of each row; images whose rows are alike in number share a pass."""
        vit = checked(model)
        found = [toggles(*part) for part in parts]
        numbered = sorted(range(len(parts)), key=lambda i: _shape(found[i]))
        features: list[Any] = [None] * len(parts)
        for _, alike in groupby(numbered, key=lambda i: _shape(found[i])):
            places = list(alike)
            images = [(parts[i].prepared, found[i]) for i in places]
            rows_BCD = _passed(vit, images, self._frozen(len(vit.blocks)))
            for place, rows_CD in zip(places, rows_BCD, strict=True):
                features[place] = rows_CD
        return torch.cat(features)

    def _frozen(self, depth: int) -> int:
        return round(self.share * depth)


def checked(model: Model) -> Any:
    """The network. Raises UsageError for one whose blocks or pooling are of another kind."""
    vit: Any = model.body
    plain_vit(model)
    reads_prefix = vit.global_pool == "token" and vit.attn_pool is None
    if not reads_prefix or not all(is_plain(block) for block in vit.blocks):
        raise UsageError(
            "frozen keys and values need a plain Vision Transformer whose class token is read"
        )
    return vit


def toggles(prepared: Embedded, coalitions_CN: Tensor) -> Toggles:
    """The set that all rows are nearest to. Raises ValueError where there is none."""
    rows_CN, player_L = coalitions_CN.numpy(), prepared.holder_L
    if len(rows_CN) == 1:  # nothing is toggled, nothing left out
        visible_L = rows_CN[0, player_L]
        return Toggles(visible_L, np.zeros_like(visible_L)[None], True)
    sizes = rows_CN.sum(1)
    common_N, any_N = np.asarray(rows_CN.all(0)), np.asarray(rows_CN.any(0))
    added = bool((sizes == common_N.sum() + 1).all())
    if not added and not (sizes == any_N.sum() - 1).all():
        raise ValueError("frozen keys and values: coalitions differ by more than one player")
    base_N = common_N if added else any_N
    own_CL = (rows_CN ^ base_N)[:, player_L]
    if len(set(own_CL.sum(1).tolist())) > 1:
        raise UsageError("frozen keys and values need players of the same number of patches")
    return Toggles(base_N[player_L], own_CL, added)


def _shape(one: Toggles) -> tuple[int, int, bool, int]:
    return len(one.own_CL), int(one.visible_L.sum()), one.added, int(one.own_CL[0].sum())


def _passed(vit: Any, images: list[tuple[Embedded, Toggles]], frozen: int) -> Tensor:
    """Features (B, C, D) of images with as many rows, visible and own patches each; the set's
    tokens are shared in the first `frozen` blocks."""
    prefix, added = vit.num_prefix_tokens, images[0][1].added
    device = images[0][0].tokens_LD.device
    base, groups, skipped = [], [], []
    for (tokens_LD, *_), (visible_L, own_CL, _) in images:
        first_PD, patches_LD = tokens_LD[:prefix], tokens_LD[prefix:]
        seen_S = to_device(torch.from_numpy(np.flatnonzero(visible_L)), device)
        base.append(torch.cat([first_PD, patches_LD[seen_S]]))
        firsts_CPD = first_PD.expand(len(own_CL), -1, -1)
        own_CT = torch.from_numpy(np.nonzero(own_CL)[1]).view(len(own_CL), -1)
        if added:
            own_CTD = patches_LD[to_device(own_CT, device)]
            firsts_CPD = torch.cat([firsts_CPD, own_CTD], 1)
        else:
            skipped.append(own_CL[:, visible_L])
        groups.append(firsts_CPD)
    x_BSD, g_BCGD = torch.stack(base), torch.stack(groups)
    skip_BCS = to_device(torch.from_numpy(np.stack(skipped)), device) if skipped else None
    for block in vit.blocks[: min(frozen, len(vit.blocks) - 1)]:
        x_BSD, g_BCGD = _block(block, x_BSD, g_BCGD, skip_BCS, prefix)
    if frozen < len(vit.blocks):
        (B, C), seen_BSD = g_BCGD.shape[:2], x_BSD[:, prefix:]
        own_BCSD = seen_BSD[:, None].expand(-1, C, -1, -1)
        if skipped:  # each row without its player's
            kept_BCS = np.nonzero(~np.stack(skipped))[2].reshape(B, C, -1)
            kept_BCS = to_device(torch.from_numpy(kept_BCS), device)
            own_BCSD = own_BCSD.gather(2, kept_BCS[..., None].expand(-1, -1, -1, x_BSD.shape[2]))
        rows_RLD = vit.blocks[frozen:-1](torch.cat([g_BCGD, own_BCSD], 2).flatten(0, 1))
        rows_RPD = first_tokens(vit.blocks[-1], rows_RLD, prefix)
    else:
        _, g_BCGD = _block(vit.blocks[-1], x_BSD, g_BCGD, skip_BCS, prefix, last=True)
        rows_RPD = g_BCGD[:, :, :prefix].flatten(0, 1)
    return vit.forward_head(vit.norm(rows_RPD)).unflatten(0, g_BCGD.shape[:2])


def _block(
    block: Any,
    x_BSD: Tensor,
    g_BCGD: Tensor,
    skip_BCS: Tensor | None,
    prefix: int,
    *,
    last: bool = False,
) -> tuple[Tensor, Tensor]:
    """A block in eval mode; the last one is not needed of the frozen tokens."""
    attn, shared = block.attn, x_BSD.shape[1]
    (B, C, G), D = g_BCGD.shape[:3], g_BCGD.shape[3]
    tokens_BLD = torch.cat([x_BSD, g_BCGD.flatten(1, 2)], 1)
    qkv = attn.qkv(block.norm1(tokens_BLD)).unflatten(2, (3, attn.num_heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    q, k = attn.q_norm(q), attn.k_norm(k)
    own_q, own_k, own_v = (t[:, :, shared:].unflatten(2, (C, G)) for t in (q, k, v))
    seen_k, seen_v = (t[:, :, None, prefix:shared] for t in (k, v))
    scale = q.shape[-1] ** -0.5
    toward = own_q @ seen_k.transpose(-1, -2) * scale  # (B, H, C, G, S)
    if skip_BCS is not None:
        toward = toward.masked_fill(skip_BCS[:, None, :, None], -torch.inf)
    among = own_q @ own_k.transpose(-1, -2) * scale  # (B, H, C, G, G)
    weight = torch.cat([toward, among], -1).softmax(-1)
    S = toward.shape[-1]
    mixed = weight[..., :S] @ seen_v + weight[..., S:] @ own_v
    mixed_BLD = mixed.permute(0, 2, 3, 1, 4).reshape(B, C * G, D)
    kept_BLD = tokens_BLD
    if last:
        kept_BLD = tokens_BLD[:, shared:]
    else:
        base = scaled_dot_product_attention(q[:, :, :shared], k[:, :, :shared], v[:, :, :shared])
        mixed_BLD = torch.cat([base.transpose(1, 2).flatten(2), mixed_BLD], 1)
    kept_BLD = kept_BLD + block.ls1(attn.proj(attn.norm(mixed_BLD)))
    kept_BLD = kept_BLD + block.ls2(block.mlp(block.norm2(kept_BLD)))
    if last:
        return x_BSD, kept_BLD.unflatten(1, (C, G))
    return kept_BLD[:, :shared], kept_BLD[:, shared:].unflatten(1, (C, G))
