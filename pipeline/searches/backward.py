"""Backward elimination: start from all players, let those go that F misses least, the last first.

A round scores F(R - a) of all players of R that remain. The best goes, and after it others of the
best `share`, each if F, asked anew, then misses it no more than the last of the share was said to
be missed, or by no more than `risk`: many players share a scoring, and none goes on a stale word.
The order is the reverse. The first round is the dearest; with `frozen` one masked pass of a Vision
Transformer ranks its players, each is asked anew, and what it may be missed by is `risk` alone.
Where a model is surest of a part of an image, a forward search starts blind and may walk past it;
from behind it is met. (Recursive feature elimination, Guyon et al., 2002, but for the asking anew.)
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.identity import LATER
from pipeline.scores import SetFunction, drop
from pipeline.searches import Found, Stop, Walk, falling
from pipeline.searches.probes.kv_frozen import probed


@dataclass(frozen=True, kw_only=True)
class Backward:
    """`share`: of the players that remain, who may go in a round; with 0 one goes. `risk`: what one
    of them may cost in the target's probability where F is log-odds, else in F. `frozen`: the first
    round is ranked by a pass with frozen keys and values (masking=token_drop)."""

    version: ClassVar[int] = 1
    share: float = 0.4
    risk: float = field(default=0.0, metadata=LATER)
    frozen: bool = field(default=False, metadata=LATER)

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise UsageError(f"search.share={self.share}: give 0 to 1")
        if self.risk < 0:
            raise UsageError(f"search.risk={self.risk}: give 0 or more")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Where all but the first of each round stay, several times what is usual. Where to stop
        changes nothing: the search comes from behind."""
        rounds = range(2, n_players + 1)
        return per_set * (1 + sum(remain + self._most(remain) - 1 for remain in rounds))

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Rounds until one player remains, then the walk from the front."""
        remain_N = np.ones(game.n_players, dtype=bool)
        gone: list[int] = []
        path = [(yield from value(torch.from_numpy(remain_N[None])))]  # of all, then of fewer
        while len(rest := np.flatnonzero(remain_N)) > 1:
            question, ranked = value(_without(remain_N, rest)), self.frozen and not gone
            scored = yield from probed(question, share=1.0) if ranked else question
            # of equals the highest index goes first: the reverse has the lowest first
            leaving = len(rest) - 1 - falling(scored.value_C.flip(0))[: self._most(len(rest))]
            last = 0.0 if ranked else float(scored.value_C[int(leaving[-1])] - path[-1].value_C[0])
            missed = min(last, 0.0) - value.tie
            for place, player in zip(leaving, rest[leaving], strict=True):
                first, after = place == leaving[0], scored[place : place + 1]
                if ranked or not first:
                    after = yield from value(_without(remain_N, rest[place : place + 1]))
                gain = float(after.value_C[0] - path[-1].value_C[0])
                if not first and gain < missed and drop(value, path[-1], after) >= self.risk:
                    continue
                remain_N[player] = False
                gone.append(int(player))
                path.append(after)
        walk = Walk(value, game, stop)
        order = [*np.flatnonzero(remain_N).tolist(), *gone[::-1]]
        for player, scored in zip(order, path[::-1], strict=True):
            if not walk.done:
                walk.take(player, scored)
        return Found(order=walk.order, path=walk.path)

    def _most(self, remain: int) -> int:
        """Players that may go in a round; one at the least stays."""
        return min(max(1, round(self.share * remain)), remain - 1)


def _without(remain_N: np.ndarray, players: np.ndarray) -> Tensor:
    """Sets (C, N): what remains but one player each."""
    sets_CN = np.repeat(remain_N[None], len(players), 0)
    sets_CN[np.arange(len(players)), players] = False
    return torch.from_numpy(sets_CN)
