"""Metric-driven attribution (Walker, Jha & Ewetz, ICLR 2025): an order found by insertion, then by
deletion, and magnitudes that follow its curves.

A prior order is trusted but for a window of its first players left. Into a blurred image players
are inserted, the best of the window first, until the response (p - p_blurred) / |p_full -
p_blurred| is `threshold`. The others are ranked from the end: into a black image goes the player of
the reversed prior's window that raises p least. Scores are the steps of the concave curve from 0 to
1 that is nearest to the mean of both curves, these rescaled to their ends and made monotone.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import inf, isqrt
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from pipeline import UsageError
from pipeline.game import OBJECTIVES, Ask, Coalitions, Elsewhere, Game, Objective, tallied
from pipeline.masking import Masking
from pipeline.methods import Attribution, Coroutine, Method, same_for_all
from pipeline.searches import falling, joined, prefixes

WIDEST = 28


@dataclass(frozen=True, kw_only=True)
class Mda:
    """`prior`: a method whose order for its first objective is trusted; None: the probability of
    each player alone, inserted. `window`: in players; None: the paper's min(28, 2 * floor(sqrt n)).
    """

    insertion_masking: Masking
    deletion_masking: Masking
    prior: Method | None = None
    window: int | None = None
    threshold: float = 0.9

    version: ClassVar[int] = 1
    searches = False  # under maskings of its own
    objectives = OBJECTIVES

    def __post_init__(self):
        if self.window is not None and self.window < 1:
            raise UsageError(f"mda.window={self.window}: give 1 or more players, or null")
        if not 0 < self.threshold <= 1:
            raise UsageError(f"mda.threshold={self.threshold}: give a number above 0, at most 1")

    def most_forwards(self, n_players: int) -> int:
        """The prior, a window a step, both curves and an empty image each."""
        prior = n_players if self.prior is None else self.prior.most_forwards(n_players)
        steps = sum(min(self._window(n_players), left) for left in range(1, n_players + 1))
        return prior + steps + 2 * n_players

    def explain(self, game: Game) -> Coroutine:
        """One order for every objective; the scores are of players, largest first."""
        n, spent = game.n_players, 2
        blurred, black = self.insertion_masking, self.deletion_masking
        if self.prior is None:
            singles = torch.eye(n, dtype=torch.bool)
            alone_N, asked = yield Elsewhere(lambda _: tallied(probability(singles)), None, blurred)
            trusted = falling(torch.from_numpy(alone_N)).tolist()
        else:
            explanation = yield from self.prior.explain(game)
            seen = next(iter(explanation.values()))
            trusted, asked = (
                [*seen.order, *sorted(set(range(n)) - set(seen.order))],
                seen.evaluations,
            )
        spent += asked
        best, asked = yield Elsewhere(
            lambda there: tallied(self._best(there, trusted)), None, blurred
        )
        spent += asked
        others = [player for player in reversed(trusted) if player not in set(best)]
        worst, asked = yield Elsewhere(lambda _: tallied(self._picked(n, others, -1)), None, black)
        order, spent = [*best, *worst[::-1]], spent + asked
        rise_G = yield Elsewhere(lambda there: curve(there, order, "insertion"), None, blurred)
        fall_G = yield Elsewhere(lambda there: curve(there, order, "deletion"), None, black)
        scores_N = torch.zeros(n, dtype=torch.float64)
        scores_N[order] = torch.from_numpy(np.diff(concave((rise_G + 1 - fall_G) / 2)))
        spent += 2 * (n - 1)
        found = Attribution(order=order, scores_N=scores_N, evaluations=spent)
        return same_for_all(found, self.objectives)

    def _best(self, game: Game, trusted: list[int]) -> Generator[Ask, Any, list[int]]:
        """Players that suffice, the best first."""
        empty, full = game.ends.probability_C.numpy()
        enough = empty + self.threshold * abs(full - empty)
        return (yield from self._picked(game.n_players, trusted, +1, enough))

    def _picked(
        self, n: int, trusted: Sequence[int], sign: int, enough: float = inf
    ) -> Generator[Ask, Any, list[int]]:
        """Players inserted one by one, the one whose p is the largest times `sign`, until p is
        `enough`; the lowest index wins ties."""
        visible_N, order, left = np.zeros(n, dtype=bool), [], list(trusted)
        p = -inf
        while left and p < enough:
            window = np.sort(left[: self._window(n)])
            p_C = yield from probability(joined(visible_N, window))
            place = int((sign * p_C).argmax())
            p = float(p_C[place])
            order.append(int(window[place]))
            visible_N[order[-1]] = True
            left.remove(order[-1])
        return order

    def _window(self, n_players: int) -> int:
        return self.window or max(1, min(WIDEST, 2 * isqrt(n_players)))


def probability(coalitions_CN: Tensor) -> Generator[Ask, Any, np.ndarray]:
    """Coroutine: of the target, for each coalition (C,)."""
    outputs = yield Coalitions(coalitions_CN)
    return outputs.probability_C.numpy()


def curve(game: Game, order: list[int], objective: Objective) -> Generator[Ask, Any, np.ndarray]:
    """Coroutine: responses 0..1 along an order (N + 1,), rescaled to the ends and made monotone.

    Raises ValueError where the ends are alike.
    """
    empty, full = game.ends.probability_C.numpy()
    if empty == full:
        raise ValueError("MDA: the image is as probable with everything hidden as with nothing")
    picked_CN = prefixes(order, game.n_players)[:-1]
    inserts = objective == "insertion"
    inner_C = np.zeros(0)
    if len(picked_CN):
        inner_C = yield from probability(picked_CN if inserts else ~picked_CN)
    first, last = (empty, full) if inserts else (full, empty)
    response_G = np.clip((np.array([first, *inner_C, last]) - empty) / abs(full - empty), 0, 1)
    return (np.maximum if inserts else np.minimum).accumulate(response_G)


def concave(curve_G: np.ndarray) -> np.ndarray:
    """The nearest curve (least squares) from 0 to 1 that rises, ever slower.

    Such curves are means of ramps min(i, k) / k, k = 1..n: a least squares problem of weights that
    are not negative and sum to 1, which a heavy last row asks for.
    """
    n = len(curve_G) - 1
    steps = np.arange(1, n + 1)
    ramps_GK = np.minimum(steps[:, None], steps) / steps
    heavy = 1e4
    weight_K, _ = nnls(np.vstack([ramps_GK, np.full(n, heavy)]), np.append(curve_G[1:], heavy))
    return np.append(0, ramps_GK @ (weight_K / weight_K.sum()))
