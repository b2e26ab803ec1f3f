"""From an order to a value for each player, and so to a map in which every pixel has one.

Ranks are n - k for the k-th pick, k from 0. Assigned values follow F along the order: players that
change it early lie high, v_t = -sum_{s<=t} |F_s - F_{s-1}|, whatever the direction (submodular
subset selection, ICLR 2024, as its authors draw it since). Players that the order leaves out lie
strictly below all others.
"""

from collections.abc import Sequence

import numpy as np


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
