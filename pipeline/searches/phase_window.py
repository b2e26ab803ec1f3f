"""Phase-window search (PhaseWin, arXiv 2511.10914): several players are picked from one scoring.

A phase picks the best player, scores the others by their gain g(a) = F(S + a) - F(S), G being the
largest, and sets those below `prune` G aside. The best of those at `accept` G or more form a
window, which alone is scored from then on; whatever gains at least `accept` G and `near` of the
window's best is picked at once. A phase ends when nothing does, or when gains begin to fall faster:
with the last two gains g2, g1, when g1/g - g2/g1 > `bend` (a gain of `keep` g1 is still picked).
Once nobody gains anything, the rest follow by one last scoring, those set aside last.

Gains are true marginal gains; the authors' code puts F(S + a) itself in their place, whose ratios
hardly differ from 1. Without their optional random deferral.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import Scored, SetFunction
from pipeline.searches import Found, Stop, Walk, ended, falling, first_best, joined


@dataclass(frozen=True, kw_only=True)
class PhaseWindow:
    """`window`: share of the players; `bend` null: a phase does not end early."""

    version: ClassVar[int] = 1
    window: float = 0.3
    prune: float = 0.05
    accept: float = 0.6
    near: float = 0.99
    bend: float | None = 0.02
    keep: float = 0.98

    def __post_init__(self):
        if not 0 < self.window <= 1:
            raise UsageError(f"search.window={self.window}: give a share of the players, up to 1")
        if not 0 <= self.prune <= self.accept <= 1 or not self.accept:
            raise UsageError(
                f"search.prune={self.prune}, search.accept={self.accept}: give "
                "0 <= prune <= accept <= 1, accept above 0"
            )
        if not 0 < self.near <= 1:
            raise UsageError(f"search.near={self.near}: give more than 0, up to 1")

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """Where every phase picks but one player: two scorings of those that remain, a window in
        vain; and the last scoring with the prefixes of the rest."""
        rest = n_players - stop.most(n_players)
        sets = n_players * (n_players + 1) - rest * (rest + 1)
        return per_set * (sets + n_players * self._width(n_players) + 2 * n_players)

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Phases until nobody gains, then the rest."""
        walk, singles, aside = Walk(value, game, stop), None, set[int]()
        width = self._width(game.n_players)
        while not walk.done:
            rest = _rest(walk, aside)
            if not len(rest):
                break
            scored = yield from value(joined(walk.picked_N, rest))
            singles = scored if singles is None else singles
            best = first_best(scored.value_C, value.tie)
            idle = bool(walk.order) and float(scored.value_C[best]) <= walk.value + value.tie
            if idle:
                break
            walk.take(int(rest[best]), scored[best : best + 1])
            rest = _rest(walk, aside)
            if walk.done or not len(rest):
                continue
            scored = yield from value(joined(walk.picked_N, rest))
            gain_C = _gains(scored, walk)
            most = float(gain_C.max())
            if most <= value.tie:
                break
            aside |= set(rest[gain_C < self.prune * most].tolist())
            order = falling(scored.value_C)
            strong = rest[order[gain_C[order] >= self.accept * most]]
            yield from self._window(value, walk, strong, self.accept * most, width)
        yield from self._rest(value, walk, aside, game.n_players)
        return Found(order=walk.order, path=walk.path, singles=singles)

    def _window(
        self, value: SetFunction, walk: Walk, strong: np.ndarray, least: float, width: int
    ) -> Generator[Ask, Any, None]:
        """Pick from a window until no player in it gains `least` or gains fall faster."""
        gains: list[float] = []
        while not walk.done and len(strong):
            window = np.sort(strong[:width])
            scored = yield from value(joined(walk.picked_N, window))
            gain_C = _gains(scored, walk)
            good = gain_C >= max(least, self.near * float(gain_C.max()))
            if not good.any():
                return
            picked, ends = list[int](), False
            for row in falling(scored.value_C)[: int(good.sum())]:
                g, ends = float(gain_C[row]), self._bends(gains, float(gain_C[row]))
                if not ends or g >= self.keep * gains[-1]:
                    picked.append(int(row))
                    gains.append(g)
                if ends:
                    break
            if picked:
                walk.take(int(window[picked[0]]), scored[picked[:1]])
                yield from ended(walk, value, window[picked[1:]].tolist(), len(walk.picked_N))
            if ends:
                return
            strong = strong[~walk.picked_N[strong]]

    def _bends(self, gains: list[float], g: float) -> bool:
        """Whether gains begin to fall faster."""
        if self.bend is None or len(gains) < 2:
            return False
        return gains[-1] / g - gains[-2] / gains[-1] > self.bend

    def _rest(
        self, value: SetFunction, walk: Walk, aside: set[int], n_players: int
    ) -> Generator[Ask, Any, None]:
        """Those that gain nothing, then those set aside, each by one last scoring."""
        if walk.done:
            return
        rest = walk.rest
        scored = yield from value(joined(walk.picked_N, rest))
        ranked = rest[falling(scored.value_C)].tolist()
        ranked.sort(key=lambda player: player in aside)
        yield from ended(walk, value, ranked, n_players)

    def _width(self, n_players: int) -> int:
        return max(1, int(self.window * n_players))


def _rest(walk: Walk, aside: set[int]) -> np.ndarray:
    """Players neither picked nor set aside."""
    return np.array([player for player in walk.rest if player not in aside], dtype=np.int64)


def _gains(scored: Scored, walk: Walk) -> np.ndarray:
    return scored.value_C.double().numpy() - walk.value
