"""Set games as a program of the engine: coalitions of many images to read-outs of the model."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.engine import Spent
from pipeline.engine.device import to_device, to_host
from pipeline.game import TOP, Outputs, Reads
from pipeline.masking import Masking, Shown
from pipeline.models import Model, Output


class Hands(NamedTuple):
    """Rows of one prepared image: coalitions (C, N) and what to read of them."""

    prepared: Any
    coalitions_CN: Tensor
    reads: Reads

    def __len__(self) -> int:
        return self.coalitions_CN.shape[0]

    def take(self, places: np.ndarray) -> "Hands":
        """Some of the rows."""
        some_CN = torch.from_numpy(self.coalitions_CN.numpy()[places])
        return Hands(self.prepared, some_CN, self.reads)


class Landed(NamedTuple):
    """Read-outs (B, 2T + 2), see `read_out`; features (B, D), where a row asks for them."""

    read_BR: Tensor
    features_BD: Tensor | None
    n_classes: int


@dataclass(frozen=True)
class SetGame:
    """Rows of every image that is played with under one masking share batches."""

    masking: Masking

    def lengths(self, model: Model, rows: Hands) -> int | np.ndarray:
        """As the masking says."""
        return self.masking.lengths(model, rows.prepared, rows.coalitions_CN)

    def launch(self, model: Model, pieces: list[Hands], spent: Spent) -> Landed:
        """One forward a row."""
        rows = sum(map(len, pieces))
        shown = [Shown(piece.prepared, piece.coalitions_CN) for piece in pieces]
        with torch.inference_mode():
            features_BD = self.masking.encode(model, shown)
            logits_BK = model.classify(features_BD).float()
            entropy = any(piece.reads.entropy for piece in pieces)
            index_BT = _classes(pieces, rows, logits_BK.shape[1])
            read_BR = to_host(read_out(logits_BK, index_BT, entropy=entropy, output=model.output))
            kept = any(piece.reads.features for piece in pieces)
            features_BD = to_host(features_BD.float()) if kept else None
        spent(rows)
        return Landed(read_BR, features_BD, logits_BK.shape[1])

    def answer(self, landed: Landed, pieces: list[Hands]) -> list[Outputs]:
        """Outputs of each piece, read out for its own classes."""
        read_BR, features_BD, n_classes = landed.read_BR.numpy(), *landed[1:]
        widest = (read_BR.shape[1] - 2) // 2
        found, start = [], 0
        for piece in pieces:
            (classes, entropy, features), stop = piece.reads, start + len(piece)
            read_CR, wide = read_BR[start:stop], len(classes)
            if wide < widest:
                own = [*range(wide), *range(widest, widest + wide), -2, -1]
                read_CR = read_CR[:, own]
            features_CD = features_BD[start:stop] if features and features_BD is not None else None
            found.append(Outputs(classes, read_CR, n_classes, features_CD, entropy))
            start = stop
        return found

    def join(self, answers: list[Outputs], order: np.ndarray) -> Outputs:
        """Rows of all answers in the order of the request."""
        return Outputs.cat(answers)[order]


def _classes(pieces: list[Hands], rows: int, n_classes: int) -> Tensor:
    """Classes to read of each row, int64 (B, T); who asks for fewer repeats the first, who asks
    for one that there is not reads the last."""
    widest = max(len(piece.reads.classes) for piece in pieces)
    index_BT, start = np.empty((rows, widest), dtype=np.int64), 0
    for piece in pieces:
        classes, stop = piece.reads.classes, start + len(piece)
        index_BT[start:stop] = (classes + (classes or (0,))[:1] * widest)[:widest]
        start = stop
    return torch.from_numpy(np.minimum(index_BT, n_classes - 1))


def read_out(
    logits_BK: Tensor, index_BT: Tensor, *, entropy: bool = False, output: Output = "softmax"
) -> Tensor:
    """(B, 2T + 2): logits and log-odds of each row's classes, its prediction, its entropy.

    `index_BT`, on the host: TOP stands for the prediction. Log-odds are z_t - logsumexp_{j != t}
    z_j, which does not saturate as log p - log(1 - p) does. Under a sigmoid they are the logits, of
    a scalar output the output itself; neither has an entropy over classes (NaN).
    """
    prediction_B1 = logits_BK.argmax(1, keepdim=True)
    predicts = (index_BT.numpy() == TOP).any()
    index_BT = to_device(index_BT, logits_BK.device)
    if predicts:
        index_BT = torch.where(index_BT == TOP, prediction_B1, index_BT)
    logits_BT = logits_BK.gather(1, index_BT)
    if output != "softmax":
        prediction_B1 = prediction_B1.float()
        last_B1 = torch.full_like(prediction_B1, torch.nan) if entropy else prediction_B1
        return torch.cat([logits_BT, logits_BT, prediction_B1, last_B1], 1)
    log_odds = []
    for t in range(index_BT.shape[1]):
        rest_BK = logits_BK.scatter(1, index_BT[:, t : t + 1], -torch.inf)
        log_odds.append(logits_BT[:, t : t + 1] - rest_BK.logsumexp(1, keepdim=True))
    prediction_B1 = last_B1 = prediction_B1.float()
    if entropy:
        log_p_BK = logits_BK.log_softmax(1)
        last_B1 = -(log_p_BK.exp() * log_p_BK).sum(1, keepdim=True)
    return torch.cat([logits_BT, *log_odds, prediction_B1, last_B1], 1)
