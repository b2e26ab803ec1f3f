"""From an order to a value for each player, and so to a map in which every pixel has one; heat.

Ranks are n - k for the k-th pick, k from 0. Assigned values follow F along the order: players that
change it early lie high, v_t = -sum_{s<=t} |F_s - F_{s-1}|, whatever the direction (submodular
subset selection, ICLR 2024, as its authors draw it since). Players that the order leaves out lie
strictly below all others.
"""

import io
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

CELLS = 56
"""Most cells a side of heat that is kept: of 224 pixels, 4 x 4 pixels each."""


def ranks(order: Sequence[int], n_players: int) -> np.ndarray:
    """n to 1 along a full order, (N,); 0 for players without a place."""
    ranks_N = np.zeros(n_players)
    ranks_N[list(order)] = n_players - np.arange(len(order))
    return ranks_N


def assigned_values(
    order: Sequence[int], values_G: Sequence[float] | np.ndarray, n_players: int
) -> np.ndarray:
    """v from 1, the first pick, down to 0, the last, (N,); all 1 where F never changes.

    `values_G`: F of the empty set and after each of the K picks, G = K + 1. Players without a
    place lie below 0 by the mean step, -1 / K.
    """
    steps_K = np.abs(np.diff(np.asarray(values_G, dtype=np.float64)))
    down_K = steps_K.cumsum() - steps_K[:1]
    span = down_K[-1] if len(down_K) else 0.0
    values_N = np.full(n_players, -1 / max(1, len(order)))
    values_N[list(order)] = 1 - down_K / (span or 1.0)
    return values_N


def both_ways(shown_G: np.ndarray, left_G: np.ndarray) -> np.ndarray:
    """F of a search that looks both ways, p(S) + 1 - p(V - S), from the probability with the picked
    players visible (the insertion curve), and with all others (the deletion curve)."""
    return np.asarray(shown_G, dtype=np.float64) + 1 - np.asarray(left_G, dtype=np.float64)


def coarse(heat_HW: Tensor) -> Tensor:
    """Heat that is kept with a row: means of cells, (h, w), at most CELLS a side, float32 of half
    precision, in units of its largest magnitude. Judges see no other, so that a row is the same
    whether its heat has just been computed or is read."""
    height, width = heat_HW.shape
    size = (min(CELLS, height), min(CELLS, width))
    cells_hw = adaptive_avg_pool2d(heat_HW.double()[None], size)[0]
    return (cells_hw / cells_hw.abs().max().clamp_min(1e-300)).half().float()


def fine(heat_hw: Tensor, size: Sequence[int]) -> Tensor:
    """Kept heat at every pixel, (H, W), bilinear."""
    return interpolate(heat_hw[None, None], list(size), mode="bilinear", align_corners=False)[0, 0]


def packed(heat_hw: Tensor) -> bytes:
    """Kept heat as an .npy file, float16 (h, w)."""
    buffer = io.BytesIO()
    np.save(buffer, heat_hw.half().numpy())
    return buffer.getvalue()


def unpacked(content: bytes) -> Tensor:
    """What `packed` has made of it."""
    return torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False)).float()
