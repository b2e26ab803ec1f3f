"""What a probe is wrong by, of each player: a random walk, observed where candidates are verified.

A Kalman filter. From step to step errors move by a variance that is learned from how far verified
candidates were off; a share of it is common to all, so that those verified say something about the
others. What has not been looked at for long is known the least.
"""

import numpy as np

TOGETHER = 0.3
"""Share of a movement's variance that all players have in common."""
PACE = 16
"""Candidates verified in a step from which on the variance follows them at its full pace."""


class Doubt:
    """Of one image. Values in units of F; F of candidates is the probe's and `mean_N`."""

    def __init__(self, n_players: int):
        self.mean_N = np.zeros(n_players)
        self._cov_NN = np.zeros((n_players, n_players))
        self._shape_NN = np.full((n_players, n_players), TOGETHER)
        np.fill_diagonal(self._shape_NN, 1)
        self._rate: float | None = None
        self._off: list[float] = []

    def spread(self, players: np.ndarray) -> np.ndarray:
        """Standard deviations."""
        return np.sqrt(np.maximum(self._cov_NN[players, players], 0))

    def move(self, expected_C: np.ndarray) -> None:
        """On to the next step. `expected_C`: of its candidates; at first they are thought to move
        by as much as they differ."""
        if self._rate is None:
            self._rate = float(np.var(expected_C)) + 1e-9
        elif self._off:
            share = min(len(self._off) / PACE, 1) / 2
            self._rate *= float(np.clip(np.mean(self._off), 0.1, 10)) ** share
        self._off.clear()
        self._cov_NN += self._rate * self._shape_NN

    def follow(self, other: "Doubt") -> None:
        """Think what another thinks; what movements are like stays its own."""
        self.mean_N, self._cov_NN = other.mean_N.copy(), other._cov_NN.copy()

    def see(self, players: np.ndarray, wrong_C: np.ndarray) -> None:
        """What the probe is wrong by, of some."""
        for player, wrong in zip(players, wrong_C, strict=True):
            surprise, variance = wrong - self.mean_N[player], self._cov_NN[player, player]
            if variance > 1e-12:
                self._off.append(surprise**2 / variance)
                share_N = self._cov_NN[:, player] / variance
                self.mean_N += share_N * surprise
                self._cov_NN -= np.outer(share_N, self._cov_NN[player])
            self.mean_N[player] = wrong
            self._cov_NN[player] = self._cov_NN[:, player] = 0
