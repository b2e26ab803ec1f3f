"""A Vision Transformer's answers to all removals of one player, from one forward and one backward.

A player that is taken away leaves each query's attention: its weight goes to the other tokens. What
that changes in a block's output is exact, what later blocks make of the change is of first order:
its product with the gradient of the target's log-odds, summed over blocks, heads and queries. (It
is attribution patching, Nanda, 2023, but each block's softmax is renewed exactly.) The more tokens
remain, the less one of them changes, and the better that is. With few it is poor: players that are
added are asked of a pass with frozen keys and values.
"""

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.engine import Listed, Request, Spent
from pipeline.engine.device import to_device, to_host
from pipeline.game import Ask, Coalitions, Outputs, Seat
from pipeline.game.sets import Hands, read_out
from pipeline.identity import LATER
from pipeline.masking.token_drop import Embedded, TokenDrop
from pipeline.models import Model
from pipeline.searches.probes.frozen_tokens import Probed, Toggles, checked, toggles
from pipeline.searches.probes.kv_frozen import KvFrozen

LEAST = 1e-3
"""Of a query's attention stays at the least: what is left is divided by it."""


@dataclass(frozen=True, kw_only=True)
class FirstOrder(KvFrozen):
    """As `KvFrozen`, and where players are taken away of first order; `share` is of the passes for
    players that are added. `whole`: steps at first in which all players are verified, if not yet
    saturated: it may rank the very one last without whom the model sees the image otherwise."""

    whole: int = field(default=0, metadata=LATER)

    def __post_init__(self):
        super().__post_init__()
        if self.whole < 0:
            raise UsageError(f"search.probe.whole={self.whole}: give 0 or more steps")

    def verifies_all(self, step: int) -> bool:
        """In the first `whole` steps."""
        return step < self.whole

    def forwards(self, n_players: int) -> int:
        """Two a look."""
        return 2 * super().forwards(n_players)

    def ask(self, asked: Coalitions) -> Ask:
        """Whichever of the two."""
        return Nudged(asked, self.share)


@dataclass(frozen=True)
class Nudged:
    """A question: what coalitions are answered, about; counted as a forward and a backward."""

    asked: Coalitions
    share: float
    sets = 2

    def at(self, seat: Seat) -> Request:
        """Raises UsageError for maskings but token_drop, and where more than log-odds is asked."""
        request = seat.request(self.asked)
        hands: Any = request.rows
        if not isinstance(request.program.masking, TokenDrop):
            raise UsageError("first-order answers need masking=token_drop")
        found = toggles(*hands[:2])
        if found.added:
            return Probed(self.asked, self.share).at(seat)
        if hands.reads.entropy or hands.reads.features:
            raise UsageError("first-order answers are log-odds: the score reads something else")
        return Request(Removals(), Listed([Removed(hands, found)]))


class Removed(NamedTuple):
    """An image's coalitions, and the set that each is a player less of."""

    hands: Hands
    toggles: Toggles


@dataclass(frozen=True)
class Removals:
    """An image's removals: log-odds of the target. Predictions are the set's, all else NaN."""

    def lengths(self, model: Model, rows: Listed) -> int:
        """Of a forward and a backward, which for tokens alone costs as much."""
        prefix = int(model.module.num_prefix_tokens)  # type: ignore[arg-type]
        return 2 * (prefix + int(rows[0].toggles.visible_L.sum()))

    def launch(self, model: Model, pieces: list[Listed], spent: Spent) -> list["Told"]:
        """Images whose removals are alike in number share a forward; a backward counts as one."""
        rows: list[Removed] = [row for piece in pieces for row in piece]
        numbered = sorted(range(len(rows)), key=lambda i: _shape(rows[i]))
        found: list[Any] = [None] * len(rows)
        for _, alike in groupby(numbered, key=lambda i: _shape(rows[i])):
            places = list(alike)
            value_BC, prediction_B, n_classes = told(model, [rows[i] for i in places])
            for b, place in enumerate(places):
                found[place] = Told(value_BC[b], prediction_B[b], n_classes)
        spent(2 * len(rows))
        return found

    def answer(self, landed: list["Told"], pieces: list[Listed]) -> list[Outputs]:
        """A piece is one image."""
        found = []
        for (value_C, prediction, n_classes), piece in zip(landed, pieces, strict=True):
            classes = piece[0].hands.reads.classes
            read_CR = np.full((len(value_C), 2 * len(classes) + 2), np.nan, dtype=np.float32)
            read_CR[:, len(classes)], read_CR[:, -2] = value_C.numpy(), float(prediction)
            found.append(Outputs(classes, read_CR, n_classes))
        return found

    def join(self, answers: list[Outputs], order: np.ndarray) -> Outputs:
        """One row cannot come in parts."""
        (outputs,) = answers
        return outputs


class Told(NamedTuple):
    """Log-odds of an image's removals (C,), the set's prediction, both on the host."""

    value_C: Tensor
    prediction: Tensor
    n_classes: int


def _shape(row: Removed) -> tuple[int, int]:
    return len(row.toggles.own_CL), int(row.toggles.visible_L.sum())


def told(model: Model, rows: list[Removed]) -> Told:
    """Of images of one shape, (B, C) and (B,)."""
    vit = checked(model)
    targets_B1 = torch.tensor([row.hands.reads.classes[:1] for row in rows])
    with torch.inference_mode(False), torch.enable_grad():
        x_BSD, member_BCS = _tokens(vit, rows)
        caught: list[tuple[Tensor, Tensor, Tensor]] = []
        for block in vit.blocks[:-1]:
            x_BSD = _block(block, x_BSD, caught)
        x_BPD = _block(vit.blocks[-1], x_BSD, caught, first=vit.num_prefix_tokens)
        logits_BK = model.classify(vit.forward_head(vit.norm(x_BPD))).float()
        _, value_B, prediction_B, _ = read_out(logits_BK, targets_B1, output=model.output).T
        # autograd.grad and the engine's count of FLOPs exclude each other
        value_B.sum().backward()
        value_BC = value_B[:, None] + sum(_change(*one, member_BCS) for one in caught)
    return Told(to_host(value_BC.detach()), to_host(prediction_B.detach()), logits_BK.shape[1])


def _tokens(vit: Any, rows: list[Removed]) -> tuple[Tensor, Tensor]:
    """Tokens (B, S, D) of the sets, with a graph; which of them each removal takes (B, C, S)."""
    prefix, images, members = vit.num_prefix_tokens, [], []
    for hands, (visible_L, own_CL, _) in rows:
        prepared: Embedded = hands.prepared
        device = prepared.tokens_LD.device
        seen_S = to_device(torch.from_numpy(np.flatnonzero(visible_L)), device)
        images.append(torch.cat([prepared.tokens_LD[:prefix], prepared.tokens_LD[prefix:][seen_S]]))
        members.append(np.pad(own_CL[:, visible_L], ((0, 0), (prefix, 0))))
    member_BCS = to_device(torch.from_numpy(np.stack(members)), device)
    x_BSD = torch.stack(images).requires_grad_(True)
    return x_BSD, member_BCS.to(x_BSD.dtype)


def _block(block: Any, x_BSD: Tensor, caught: list, first: int | None = None) -> Tensor:
    """A block in eval mode; its attention, values and what it mixes of them are `caught`. The last
    one is needed of its `first` tokens alone."""
    attn = block.attn
    qkv = attn.qkv(block.norm1(x_BSD)).unflatten(2, (3, attn.num_heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, S, d) each
    q, k = attn.q_norm(q[:, :, :first]), attn.k_norm(k)
    weight_BHQS = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    mixed_BHQd = weight_BHQS @ v
    mixed_BHQd.retain_grad()
    caught.append((mixed_BHQd, weight_BHQS.detach(), v.detach()))
    x_BQD = x_BSD[:, :first]
    x_BQD = x_BQD + block.ls1(attn.proj(attn.norm(mixed_BHQd.transpose(1, 2).flatten(2))))
    return x_BQD + block.ls2(block.mlp(block.norm2(x_BQD)))


def _change(mixed_BHQd: Tensor, weight_BHQS: Tensor, v_BHSd: Tensor, member_BCS: Tensor) -> Tensor:
    """Of the log-odds by each removal (B, C), through one block's attention.

    A query that gave the player w and mixes m without it mixes m - w / (1 - w) (v - m).
    """
    assert mixed_BHQd.grad is not None
    slope_BHQd = mixed_BHQd.grad
    pull_BHQS = slope_BHQd @ v_BHSd.transpose(-1, -2)
    pull_BHQS = weight_BHQS * (pull_BHQS - (slope_BHQd * mixed_BHQd.detach()).sum(-1, keepdim=True))
    member_B1SC = member_BCS.transpose(1, 2)[:, None]
    left_BHQC = (1 - weight_BHQS @ member_B1SC).clamp_min(LEAST)
    change_BHQC = -(pull_BHQS @ member_B1SC) / left_BHQC
    stays_B1QC = 1 - member_B1SC[:, :, : change_BHQC.shape[2]]  # its own queries go with it
    return (change_BHQC * stays_B1QC).sum((1, 2)).float()
