"""Backward elimination: start from all players, let those go that F misses least, the last first.

A round scores F(R - a) of all players of R that remain. The best goes, and after it others of the
best `share`, each if F, asked anew, then misses it no more than the last of the share was said to
be missed, or by no more than `risk`: many players share a scoring, and none goes on a stale word.
The order is the reverse. The first rounds are the dearest; with a `probe` of a Vision Transformer
it ranks their players, each is asked anew, and what it may be missed by is `risk` alone; where all
are missed by more, the one who is missed least of them goes. A ranking is of the set that it was
made of: where the prediction has moved, the round ends, and the others are ranked anew.
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
from pipeline.scores import Scored, SetFunction, drop
from pipeline.searches import Found, Stop, Walk, falling, joined
from pipeline.searches.probes.kv_frozen import KvFrozen, probed


@dataclass(frozen=True, kw_only=True)
class Backward:
    """`share`: of the players that remain, who may go in a round; with 0 one goes. `risk`: what one
    of them may cost in the target's probability where F is log-odds, else in F. `probe`: what ranks
    rounds of more than `asked` players (masking=token_drop); None: all are asked in all rounds.
    `moved`: such a round ends once F is another than where it was ranked by more than this, in
    probability or F as there; None: never."""

    version: ClassVar[int] = 2
    share: float = 0.4
    risk: float = field(default=0.0, metadata=LATER)
    probe: KvFrozen | None = field(default=None, metadata=LATER)
    asked: int = field(default=20, metadata=LATER)
    moved: float | None = field(default=None, metadata=LATER)

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise UsageError(f"search.share={self.share}: give 0 to 1")
        if self.risk < 0:
            raise UsageError(f"search.risk={self.risk}: give 0 or more")
        if self.asked < 0:
            raise UsageError(f"search.asked={self.asked}: give 0 or more players")
        if self.moved is not None and self.moved < 0:
            raise UsageError(f"search.moved={self.moved}: give 0 or more, or null")
        if not isinstance(self.probe, KvFrozen | None):
            raise UsageError(
                "search.probe: backward elimination takes kv_frozen or first_order, or null"
            )
        if self.probe is not None and self.probe.verifies_all(0):
            raise UsageError("search.probe: give whole=0; search.asked says where all are asked")

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
        tail, path = yield from self.ordered(~walk.picked_N, walk.picked_N, value)
        walk.follow(tail, path)

    def ordered(
        self, among_N: np.ndarray, front_N: np.ndarray, value: SetFunction
    ) -> Generator[Ask, Any, tuple[list[int], list[Scored]]]:
        """Coroutine: the order of some players behind those of the front, and F after each."""
        gone_N = ~(among_N | front_N)
        left = _Left(value, gone_N, [(yield from value(torch.from_numpy(~gone_N[None])))])
        while len(rest := np.flatnonzero(among_N & ~left.gone_N)) > 1:
            yield from self._round(left, rest)
        return [*rest.tolist(), *left.gone[::-1]], left.path[::-1]

    def _round(self, left: "_Left", rest: np.ndarray) -> Generator[Ask, Any, None]:
        """Coroutine: one scoring of `rest`, and its best share let go one by one."""
        question, probe = left.value(left.without(rest)), self._probe(len(rest))
        scored = yield from question if probe is None else probed(question, probe)
        # of equals the highest index goes first: the reverse has the lowest first
        leaving = len(rest) - 1 - falling(scored.value_C.flip(0))[: self._most(len(rest))]
        missed = 0.0 if probe else min(left.gain(scored[leaving[-1:]]), 0.0)
        if not probe:
            left.let_go(int(rest[leaving[0]]), scored[leaving[:1]])
        stay: dict[int, Scored] = {}
        ranked = left.path[-1]
        for player in rest[leaving if probe else leaving[1:]].tolist():
            if probe and self._stale(left, ranked):
                return
            after = yield from left.value(left.without(np.array([player])))
            if left.gain(after) >= missed - left.value.tie or left.costs(after) < self.risk:
                left.let_go(player, after)
            else:
                stay[player] = after
        if len(stay) == len(leaving):  # one has to
            left.let_go(*max(stay.items(), key=lambda one: float(one[1].value_C[0])))

    def _stale(self, left: "_Left", ranked: Scored) -> bool:
        """Whether too much has changed since a ranking."""
        return self.moved is not None and abs(left.costs(ranked)) > self.moved

    def _probe(self, remain: int) -> KvFrozen | None:
        return self.probe if remain > self.asked else None

    def _most(self, remain: int) -> int:
        """Players that may go in a round; one at the least stays."""
        return min(max(1, round(self.share * remain)), remain - 1)


@dataclass
class _Left:
    """Who is gone (N,), and in which order; F of all players, and after each who is gone."""

    value: SetFunction
    gone_N: np.ndarray
    path: list[Scored]
    gone: list[int] = field(default_factory=list)

    def without(self, players: np.ndarray) -> Tensor:
        """Sets (C, N): what remains but one player each."""
        return ~joined(self.gone_N, players)

    def gain(self, after: Scored) -> float:
        """What F rises by."""
        return float(after.value_C[0] - self.path[-1].value_C[0])

    def costs(self, after: Scored) -> float:
        """What F falls by, in probability where it is log-odds."""
        return drop(self.value, self.path[-1], after)

    def let_go(self, player: int, after: Scored) -> None:
        self.gone_N[player] = True
        self.gone.append(player)
        self.path.append(after)
