"""Greedy search: b_k = argmax_b F(S + b), one player a step.

n(n+1)/2 sets for a full order of n players: only remaining players are scored. For monotone
submodular F, prefixes reach 1 - 1/e of the optimum (Nemhauser et al., 1978).
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.game import Ask, Game
from pipeline.scores import SetFunction
from pipeline.searches import Found, Stop, Walk, first_best, joined
from pipeline.searches.verified import Verified


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """No settings."""

    version: ClassVar[int] = 1

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Step k scores the n - k + 1 players that remain; with `stop.gain` one step may be in
        vain, which the budget covers."""
        rest = n_players - stop.most(n_players)
        return per_set * (n_players * (n_players + 1) // 2 - rest * (rest + 1) // 2)

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Pick one player a step until the search stops."""
        checked = Verified(value) if game.verified else None
        value = checked or value
        walk, singles = Walk(value, game, stop), None
        while not walk.done:
            rest = walk.rest
            scored = yield from value(joined(walk.picked_N, rest))
            singles = scored if singles is None else singles
            best = first_best(scored.value_C, value.tie)
            walk.take(int(rest[best]), scored[best : best + 1])
        details = checked.details if checked and walk.order else None
        return Found(order=walk.order, path=walk.path, singles=singles, details=details)
