"""Pooled elimination: backward elimination whose rounds take players away by twos.

The `front` of the order is found by greedy search, where sets are small and cheap. Of the others
those go that F misses least, the last first, as in backward elimination. But a round evaluates only
who may well be one of them, and neighbours together: what each is missed by is inferred, from all
that was seen so far (`missed`). Each that goes is asked for itself, so that nobody goes on hearsay.
Near the full set one player alone is hardly missed, as its neighbours stand in for it; two are.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import Scored, SetFunction, drop
from pipeline.searches import Found, Stop, Walk, falling, first_best, joined, without
from pipeline.searches.missed import Missed, distances, matched
from pipeline.searches.probes.kv_frozen import probed

DOUBT = 1.0
"""Standard deviations that players are given the benefit of, as to who is evaluated in a round."""


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """`front`: players found by greedy search. `frozen`: share of a Vision Transformer's blocks in
    which a pass freezes the set's tokens to rank their candidates (masking=token_drop); `verify` of
    them are evaluated then. None: all are. The first round evaluates all of the others, a later one
    the share `asked` of those that remain, by twos while more than `pairs` do. `share`: who may go
    in a round; the first does, another if F misses it no more than the last of them is expected to
    be missed, or by no more than `risk` (in the target's probability where F is log-odds, else in
    F)."""

    version: ClassVar[int] = 1
    front: int = 3
    frozen: float | None = None
    verify: int = 3
    asked: float = 0.6
    pairs: int = 12
    share: float = 0.15
    risk: float = 0.002

    def __post_init__(self):
        for name in ("asked", "share", "frozen"):
            given = getattr(self, name)
            if given is not None and not 0 <= given <= 1:
                raise UsageError(f"search.{name}={given}: give 0 to 1")
        for name, least in (("front", 0), ("verify", 1), ("pairs", 1), ("risk", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"search.{name}={getattr(self, name)}: give {least} or more")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Where all but the first of each round stay, several times what is usual. Where to stop
        changes nothing: the search comes from behind."""
        front = min(self.front, n_players - 1)
        candidates = range(n_players - front + 1, n_players + 1)
        asked = [c if self.frozen is None else 1 + min(self.verify, c) for c in candidates]
        rounds = range(2, n_players - front + 1)
        behind = sum(self._evaluated(c) + self._most(c) for c in rounds)
        first = n_players - front
        return per_set * (sum(asked) + 1 + behind + first - self._evaluated(first))

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """The front, then rounds until one of the others remains, then the walk."""
        front, path = yield from self._ahead(value, game.n_players)
        everyone_1N = torch.ones(1, game.n_players, dtype=torch.bool)
        distance_NN = distances(game.regions_HW, game.n_players)
        left = _Left((yield from value(everyone_1N)), front, distance_NN)
        before: set[frozenset[int]] = set()
        while len(rest := left.others) > 1:
            tried = rest
            if left.gone:  # at first nothing is known of anybody
                hopeful = left.missed.mean_N[rest] + DOUBT * left.missed.spread_N[rest]
                most_hopeful = rest[np.argsort(-hopeful, kind="stable")]
                tried = np.sort(most_hopeful[: self._evaluated(len(rest))])
            groups = [[int(one)] for one in tried]
            if len(rest) > self.pairs:
                groups = matched(tried, distance_NN, before)
                before = {frozenset(group) for group in groups}
            scored = yield from value(without(left.remain_N, groups))
            left.missed.see(groups, (scored.value_C - left.path[-1].value_C).numpy())
            yield from self._round(value, left, tried, self._most(len(rest)))
        walk = Walk(value, game, stop)
        order = [*front, *left.others.tolist(), *left.gone[::-1]]
        for player, after in zip(order, [*path, *left.path[::-1]], strict=True):
            if not walk.done:
                walk.take(player, after)
        return Found(order=walk.order, path=walk.path)

    def _ahead(
        self, value: SetFunction, n_players: int
    ) -> Generator[Ask, Any, tuple[list[int], list[Scored]]]:
        """Greedy search's first players, and F after each."""
        picked_N = np.zeros(n_players, dtype=bool)
        front: list[int] = []
        path: list[Scored] = []
        while len(front) < min(self.front, n_players - 1):
            rest = np.flatnonzero(~picked_N)
            if self.frozen is not None:
                guessed = yield from probed(value(joined(picked_N, rest)), self.frozen)
                rest = np.sort(rest[falling(guessed.value_C)[: self.verify]])
            scored = yield from value(joined(picked_N, rest))
            best = first_best(scored.value_C, value.tie)
            picked_N[rest[best]] = True
            front.append(int(rest[best]))
            path.append(scored[best : best + 1])
        return front, path

    def _round(
        self, value: SetFunction, left: "_Left", tried: np.ndarray, most: int
    ) -> Generator[Ask, Any, None]:
        """Up to `most` of the players tried go, who is expected to be missed least the first."""
        missed = left.missed
        least = np.sort(missed.mean_N[tried])[::-1][:most][-1]
        limit = min(float(least), 0.0) - value.tie
        for turn in range(min(most, len(tried))):
            # of equals the highest index goes first: the order has the lowest first
            place = len(tried) - 1 - int(missed.mean_N[tried[::-1]].argmax())
            player, tried = int(tried[place]), np.delete(tried, place)
            after = yield from value(without(left.remain_N, [[player]]))
            change = float(after.value_C[0] - left.path[-1].value_C[0])
            missed.see([[player]], np.array([change]))
            if not turn or change >= limit or drop(value, left.path[-1], after) < self.risk:
                left.remain_N[player] = False
                left.gone.append(player)
                left.path.append(after)
                missed.age()

    def _evaluated(self, others: int) -> int:
        """Players that a round evaluates."""
        return min(max(2, round(self.asked * others)), others)

    def _most(self, others: int) -> int:
        """Players that may go in a round; one at the least stays."""
        return min(max(1, round(self.share * others)), others - 1)


class _Left:
    """Who remains, who has `gone`, F of all and after each, and what players are missed by."""

    def __init__(self, everyone: Scored, front: list[int], distance_NN: np.ndarray):
        self.remain_N = np.ones(len(distance_NN), dtype=bool)
        self.gone: list[int] = []
        self.path = [everyone]
        self.missed = Missed(distance_NN)
        self._front = front

    @property
    def others(self) -> np.ndarray:
        """Players that remain and are not of the front, ascending."""
        return np.setdiff1d(np.flatnonzero(self.remain_N), self._front)
