"""Windowed search (MDA, ICLR 2025): a greedy search that trusts a prior order but for its details.

Each step scores only the first `window` players left of the order, so that n players take fewer
than n * window sets. A window of n is greedy search.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import SetFunction
from pipeline.searches import Found, Stop, Walk, falling, first_best, joined


@dataclass(frozen=True, kw_only=True)
class Windowed:
    """`prior`: a method whose order (for its first objective) is trusted; None: F of each player
    alone."""

    version: ClassVar[int] = 1
    window: int = 28
    prior: Any = None

    def __post_init__(self):
        if self.window < 1:
            raise UsageError(f"search.window={self.window}: give 1 or more players")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """The prior, and a window a step."""
        steps = range(stop.most(n_players))
        sets = sum(min(self.window, n_players - picked) for picked in steps)
        if self.prior is None:
            return per_set * (n_players + sets)
        return self.prior.most_forwards(n_players) + per_set * sets

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Ask for the prior, then pick one player a step."""
        walk, singles = Walk(value, game, stop), None
        if self.prior is None:
            singles = yield from value(joined(walk.picked_N, walk.rest))
            trusted = falling(singles.value_C)
        else:
            explanation = yield from self.prior.explain(game)
            order = next(iter(explanation.values())).order
            trusted = np.array([*order, *(p for p in walk.rest if p not in set(order))])
        while not walk.done:
            window = np.sort(trusted[~walk.picked_N[trusted]][: self.window])
            scored = yield from value(joined(walk.picked_N, window))
            if singles is None and len(window) == game.n_players:
                singles = scored
            best = first_best(scored.value_C, value.tie)
            walk.take(int(window[best]), scored[best : best + 1])
        return Found(order=walk.order, path=walk.path, singles=singles)
