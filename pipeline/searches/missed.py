"""What players are missed by, inferred from sets that lack one or two of them.

A Gaussian over what F changes by as each player goes: neighbours resemble one another, a set that
lacks two players tells their sum about, one that lacks a single player tells it exactly. With every
player that has gone, what is known of the others grows older. (A Kalman filter; that groups may be
tested for their members is Dorfman's idea, 1943.)
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

NEAR = 0.7
"""Distance, in sides of a player, at which resemblance has fallen to exp(-1/2) of its height."""
ALIKE = 0.9
"""Its height: the correlation of players at one place."""
TOGETHER = 0.3
"""What two players' sum may differ by from what both are missed by: a variance, as a share of that
of players."""
AGE = 0.2
"""What a player that goes adds to the variance of the others, as a share of that at first."""


class Missed:
    """Of one image. `mean_N`: what F is expected to change by as a player goes."""

    def __init__(self, distance_NN: np.ndarray):
        n_players = len(distance_NN)
        alike_NN = ALIKE * np.exp(-((distance_NN / NEAR) ** 2) / 2)
        self._shape_NN = alike_NN + (1 - ALIKE) * np.eye(n_players)
        self._variance = 0.0
        self._cov_NN = np.zeros((n_players, n_players))
        self.mean_N = np.zeros(n_players)

    @property
    def spread_N(self) -> np.ndarray:
        """Standard deviations."""
        return np.sqrt(np.maximum(self._cov_NN.diagonal(), 0))

    def see(self, groups: Sequence[Sequence[int]], changes_G: np.ndarray) -> None:
        """What F changes by as each of these groups goes, alone; the first time they also say what
        is to be expected of players."""
        if not self._variance:
            sizes_G = np.array([len(group) for group in groups])
            each_G = changes_G / sizes_G
            self._variance = max(float(each_G.var() * sizes_G.mean()), 1e-6)
            self.mean_N += each_G.mean()
            self._cov_NN = self._variance * self._shape_NN
        for group, change in zip(groups, changes_G, strict=True):
            share_N = self._cov_NN[:, group].sum(1)
            noise = TOGETHER * self._variance if len(group) > 1 else 0.0
            variance = share_N[list(group)].sum() + noise
            if variance > 1e-9 * self._variance:
                surprise = change - self.mean_N[list(group)].sum()
                self.mean_N += share_N * (surprise / variance)
                self._cov_NN -= np.outer(share_N, share_N) / variance

    def age(self) -> None:
        """A player has gone."""
        self._cov_NN += AGE * self._variance * self._shape_NN


def distances(regions_HW: Tensor | None, n_players: int) -> np.ndarray:
    """Between the players' centres (N, N), in sides of a square of a player's usual size; infinite
    between the players of a game without an image."""
    if regions_HW is None:
        return np.where(np.eye(n_players, dtype=bool), 0.0, np.inf)
    player_P = regions_HW.numpy().ravel()
    sizes_N = np.bincount(player_P, minlength=n_players)
    places = np.indices(regions_HW.shape).reshape(2, -1)
    centres_N2 = np.stack([np.bincount(player_P, w, n_players) / sizes_N for w in places], 1)
    apart_NN2 = centres_N2[:, None] - centres_N2[None]
    return np.sqrt((apart_NN2**2).sum(2) * n_players / player_P.size)


def matched(players: np.ndarray, distance_NN: np.ndarray, before: set[frozenset[int]]) -> list:
    """Groups of two, the nearest first, and one of the player left over; who was together `before`
    counts as two sides further apart."""
    first_P, second_P = np.triu_indices(len(players), 1)
    first_P, second_P = players[first_P], players[second_P]
    apart_P = distance_NN[first_P, second_P]
    again_P = [frozenset(pair) in before for pair in zip(first_P, second_P, strict=True)]
    apart_P = np.hypot(apart_P, 2.0 * np.array(again_P, dtype=float))
    groups, left = [], set(players.tolist())
    for place in np.argsort(apart_P, kind="stable"):
        pair = [int(first_P[place]), int(second_P[place])]
        if left.issuperset(pair):
            groups.append(pair)
            left.difference_update(pair)
    return groups + [[one] for one in sorted(left)]
