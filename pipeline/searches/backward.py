"""Backward elimination: start from all players, let those go that F misses least, the last first.

A round scores F(R - a) of all players of R that remain. The best goes, and after it others of the
best `share`, each if F, asked anew, then misses it no more than the last of the share was said to
be missed, or by no more than `risk`: many players share a scoring, and none goes on a stale word.
The order is the reverse. The first rounds are the dearest; with a `probe` of a Vision Transformer
it ranks their players, each is asked anew, and what it may be missed by is `risk` alone.
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
from pipeline.searches.probes.kv_frozen import KvFrozen, probed


@dataclass(frozen=True, kw_only=True)
class Backward:
    """`share`: of the players that remain, who may go in a round; with 0 one goes. `risk`: what one
    of them may cost in the target's probability where F is log-odds, else in F. `probe`: what ranks
    rounds of more than `asked` players (masking=token_drop); None: all are asked in all rounds."""

    version: ClassVar[int] = 1
    share: float = 0.4
    risk: float = field(default=0.0, metadata=LATER)
    probe: KvFrozen | None = field(default=None, metadata=LATER)
    asked: int = field(default=20, metadata=LATER)

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise UsageError(f"search.share={self.share}: give 0 to 1")
        if self.risk < 0:
            raise UsageError(f"search.risk={self.risk}: give 0 or more")
        if self.asked < 0:
            raise UsageError(f"search.asked={self.asked}: give 0 or more players")
        if not isinstance(self.probe, KvFrozen | None):
            raise UsageError(
                "search.probe: backward elimination takes kv_frozen or first_order, or null"
            )

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Where all but the first of each round stay, several times what is usual. Where to stop
        changes nothing: the search comes from behind."""
        rounds = range(2, n_players + 1)
        asked = [max(remain - 1, 2 if self._probe(remain) else 1) for remain in rounds]
        return per_set * (1 + sum(asked) + sum(map(self._most, rounds)))

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Rounds until one player remains, then the walk from the front."""
        walk = Walk(value, game, stop)
        yield from self.finish(walk, value)
        return Found(order=walk.order, path=walk.path)

    def finish(self, walk: Walk, value: SetFunction) -> Generator[Ask, Any, None]:
        """Coroutine: order whom the walk has not picked, and walk on."""
        remain_N = np.ones(len(walk.picked_N), dtype=bool)
        gone: list[int] = []
        path = [(yield from value(torch.from_numpy(remain_N[None])))]  # of all, then of fewer
        while len(rest := np.flatnonzero(remain_N & ~walk.picked_N)) > 1:
            question, probe = value(_without(remain_N, rest)), self._probe(len(rest))
            scored = yield from question if probe is None else probed(question, probe)
            # of equals the highest index goes first: the reverse has the lowest first
            leaving = len(rest) - 1 - falling(scored.value_C.flip(0))[: self._most(len(rest))]
            last = 0.0 if probe else float(scored.value_C[int(leaving[-1])] - path[-1].value_C[0])
            missed = min(last, 0.0) - value.tie
            for place, player in zip(leaving, rest[leaving], strict=True):
                first, after = place == leaving[0], scored[place : place + 1]
                if probe or not first:
                    after = yield from value(_without(remain_N, rest[place : place + 1]))
                gain = float(after.value_C[0] - path[-1].value_C[0])
                if not first and gain < missed and drop(value, path[-1], after) >= self.risk:
                    continue
                remain_N[player] = False
                gone.append(int(player))
                path.append(after)
        for player, scored in zip([*rest.tolist(), *gone[::-1]], path[::-1], strict=False):
            if not walk.done:
                walk.take(player, scored)

    def _probe(self, remain: int) -> KvFrozen | None:
        return self.probe if remain > self.asked else None

    def _most(self, remain: int) -> int:
        """Players that may go in a round; one at the least stays."""
        return min(max(1, round(self.share * remain)), remain - 1)


def _without(remain_N: np.ndarray, players: np.ndarray) -> Tensor:
    """Sets (C, N): what remains but one player each."""
    sets_CN = np.repeat(remain_N[None], len(players), 0)
    sets_CN[np.arange(len(players)), players] = False
    return torch.from_numpy(sets_CN)
