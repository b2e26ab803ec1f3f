"""Backward elimination: start from all players, let those go that F misses least, the last first.

A round scores F(R - a) of all players of R that remain and lets a share of them go in that order,
as far as F along it is best: several players share a scoring. The order is the reverse. Where a
model is surest of part of an image, a forward search starts blind and walks past that part; from
behind it is met. (Chunks as in recursive feature elimination, Guyon et al., 2002.)
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import Scored, SetFunction
from pipeline.searches import Found, Stop, Walk, falling


@dataclass(frozen=True, kw_only=True)
class Backward:
    """`share`: of the players that remain, who may go in a round; at least `least` of these do. A
    share of 0 lets one go a round."""

    version: ClassVar[int] = 1
    share: float = 0.3
    least: float = 0.5

    def __post_init__(self):
        for name in ("share", "least"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"search.{name}={getattr(self, name)}: give 0 to 1")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Rounds that cost most. Where to stop changes nothing: the search comes from behind."""
        most = [0, 1]
        for remain in range(2, n_players + 1):
            few, many = self._go(remain)
            most.append(remain + many - 1 + max(most[remain - many : remain - few + 1]))
        return per_set * most[n_players]

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Rounds until one player remains, then the walk from the front."""
        remain_N = np.ones(game.n_players, dtype=bool)
        gone: list[int] = []
        path = [(yield from value(torch.from_numpy(remain_N[None])))]  # of all, then of fewer
        while len(rest := np.flatnonzero(remain_N)) > 1:
            scored = yield from value(_without(remain_N, rest[:, None]))
            few, many = self._go(len(rest))
            # of equals the highest index goes first: the reverse has the lowest first
            leaving = len(rest) - 1 - falling(scored.value_C.flip(0))[:many]
            going = [scored[leaving[:1]]]
            if many > 1:
                several = [rest[leaving[:k]] for k in range(2, many + 1)]
                going.append((yield from value(_without(remain_N, several))))
            after = Scored.cat(going)
            end = few + int(after.value_C.numpy()[few - 1 :].argmax())
            gone += rest[leaving[:end]].tolist()
            remain_N[gone] = False
            path += [after[k : k + 1] for k in range(end)]
        walk = Walk(value, game, stop)
        order = [*np.flatnonzero(remain_N).tolist(), *gone[::-1]]
        for player, scored in zip(order, path[::-1], strict=True):
            if not walk.done:
                walk.take(player, scored)
        return Found(order=walk.order, path=walk.path)

    def _go(self, remain: int) -> tuple[int, int]:
        """Fewest and most players that go in a round, one of them at the least stays."""
        most = min(max(1, round(self.share * remain)), remain - 1)
        return max(1, round(self.least * most)), most


def _without(remain_N: np.ndarray, leaving: Iterable[np.ndarray]) -> Tensor:
    """Sets (C, N): what remains but C times somebody."""
    sets = []
    for players in leaving:
        sets.append(remain_N.copy())
        sets[-1][players] = False
    return torch.from_numpy(np.stack(sets))
