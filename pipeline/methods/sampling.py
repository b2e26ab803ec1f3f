"""What methods share that look at many coalitions drawn beforehand: none is evaluated twice."""

from collections.abc import Generator
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.game import OBJECTIVES, Ask, Coalitions, Game, Outputs, Read
from pipeline.methods import Attribution, Explanation, rank, same_for_all

CHUNK = 256
"""Coalitions that are asked for at once: enough for batches, few enough to keep."""


def check(name: str, read: str, forwards: int, least: int = 1) -> None:
    """Raise UsageError for settings that all of these methods have."""
    if forwards < least:
        raise UsageError(f"{name}.forwards={forwards}: give at least {least}")
    check_read(name, read)


def check_read(name: str, read: str) -> None:
    """Raise UsageError for what cannot be read."""
    if read not in get_args(Read):
        raise UsageError(f"{name}.read={read!r}: use one of {', '.join(get_args(Read))}")


def values_of(
    coalitions_CN: Tensor, game: Game, read: Read
) -> Generator[Ask, Any, tuple[Tensor, int]]:
    """Coroutine: what is read of each coalition, float64 (C,), and how many had to be asked for:
    equal ones count once, the empty and the full one are known."""
    n, packed_CB = game.n_players, np.packbits(coalitions_CN.numpy(), axis=1)
    _, first_U, place_C = np.unique(packed_CB, axis=0, return_index=True, return_inverse=True)
    unique_UN = coalitions_CN[torch.from_numpy(first_U)]
    size_U = unique_UN.sum(1)
    value_U = torch.where(size_U > 0, *game.ends.reading(read).flip(0))
    inner = ((size_U > 0) & (size_U < n)).nonzero()[:, 0]
    for chunk in inner.split(CHUNK):
        outputs: Outputs = yield Coalitions(unique_UN[chunk])
        value_U[chunk] = outputs.reading(read)
    return value_U[torch.from_numpy(place_C.reshape(-1))], len(inner)


def result(scores_N: Tensor, evaluations: int) -> Explanation:
    """One order by falling score for both objectives. Raises ValueError for scores that are no
    numbers."""
    if not scores_N.isfinite().all():
        raise ValueError("the scores hold NaN or infinite values")
    attribution = Attribution(order=rank(scores_N), scores_N=scores_N, evaluations=evaluations)
    return same_for_all(attribution, OBJECTIVES)
