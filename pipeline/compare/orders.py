"""Two orders of one image's players against each other, all of it 1 for equal ones.

Players without a place in an order share the last places. Spearman's rho is the correlation of
places, Kendall's tau-b counts pairs of players that stand the same way round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

Order = Sequence[int] | np.ndarray
"""Players, the most important first."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """`same`: equal orders; `picks`: share of equal picks, place by place; `parting`: share of
    equal picks before the orders part; `overlap` of the first picks; rank correlations, None where
    they are not defined."""

    same: bool
    picks: float
    parting: float
    overlap: float
    spearman: float | None
    kendall: float | None


SAME = Likeness(same=True, picks=1.0, parting=1.0, overlap=1.0, spearman=1.0, kendall=1.0)


def likeness(one: Order, other: Order, n_players: int, top: float) -> Likeness:
    """Of two orders; `top`: the share of the players that `overlap` looks at, one at least."""
    a, b = np.asarray(one, dtype=np.int64), np.asarray(other, dtype=np.int64)
    if np.array_equal(a, b):
        return SAME
    longest = max(len(a), len(b))
    filled = [np.pad(x, (0, longest - len(x)), constant_values=-1) for x in (a, b)]
    equal_K = filled[0] == filled[1]
    k = max(1, round(top * n_players))
    places = places_of(a, n_players), places_of(b, n_players)
    defined = all(place_N.std() > 0 for place_N in places)
    tau = kendalltau(*places).statistic if defined else None
    return Likeness(
        same=False,
        picks=float(equal_K.mean()),
        parting=float(equal_K.argmin() / longest),
        overlap=len(np.intersect1d(a[:k], b[:k])) / max(1, min(k, longest)),
        spearman=float(np.corrcoef(*places)[0, 1]) if defined else None,
        kendall=None if tau is None else float(tau),
    )


def places_of(order: np.ndarray, n_players: int) -> np.ndarray:
    """Place of each player, float64 (N,), from 0; those without one share the mean of the rest."""
    place_N = np.full(n_players, (len(order) + n_players - 1) / 2)
    place_N[order] = np.arange(len(order))
    return place_N


def iou(one: Order, other: Order) -> float:
    """Intersection over union of two sets of players; 1 of two empty ones."""
    if np.array_equal(one, other):
        return 1.0
    common = len(np.intersect1d(one, other))
    return common / (len(one) + len(other) - common)
