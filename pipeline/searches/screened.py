"""Screened greedy search: a probe ranks the candidates, exact evaluation decides among the first.

A step verifies candidates in the order of what the probe expects of them, `verify` at a time, until
the best verified one is ahead of all others' expectation by `spread` standard deviations of what
the probe has been wrong by. Once the prediction is saturated the rest is ordered by one look of the
probe; its curve is evaluated all the same.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.scores import Scored, SetFunction
from pipeline.searches import Found, Stop, Walk, ended, first_best, joined
from pipeline.searches.probes import Look, Probe
from pipeline.searches.probes.stale import Stale

FEW, RECENT = 8, 64
"""Errors of a probe that say how far it can be trusted: so many at least, the last so many."""


@dataclass(frozen=True, kw_only=True)
class Screened:
    """`most`: candidates verified a step, at the most. `saturated`: once the target's probability
    is at least this (insertion), or at most 1 minus it (deletion), for `patience` steps, the search
    ends; None: never."""

    version: ClassVar[int] = 1
    probe: Probe = field(default_factory=Stale)
    verify: int = 4
    most: int = 16
    spread: float = 2.0
    saturated: float | None = 0.99
    patience: int = 3

    def __post_init__(self):
        for name in ("verify", "most", "patience"):
            if getattr(self, name) < 1:
                raise UsageError(f"search.{name}={getattr(self, name)}: give 1 or more")
        if self.saturated is not None and not 0.5 < self.saturated < 1:
            raise UsageError(
                f"search.saturated={self.saturated}: give a probability between .5 and 1, or null"
            )

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """A step's candidates, and the probe's looks."""
        steps = range(stop.most(n_players))
        sets = sum(min(self.most, n_players - picked) for picked in steps)
        return per_set * sets + per_set * self.probe.forwards(n_players)

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Pick one player a step; the rest in the probe's order where nothing is left to win."""
        walk, look = Walk(value, game, stop), self.probe.open(value, game)
        errors: list[float] = []
        calm = 0
        while not walk.done:
            expected = yield from look(walk)
            if calm >= self.patience:
                rest = walk.rest[np.argsort(-expected, kind="stable")]
                yield from ended(walk, value, rest.tolist(), game.n_players)
                break
            scored = yield from self._step(walk, value, look, expected, errors)
            calm = calm + 1 if self._is_saturated(scored) else 0
        return Found(order=walk.order, path=walk.path)

    def _step(
        self, walk: Walk, value: SetFunction, look: Look, expected: np.ndarray, errors: list[float]
    ) -> Generator[Ask, Any, Scored]:
        """Verify until nobody else is expected to win; pick; F with the picked."""
        rest, order = walk.rest, np.argsort(-expected, kind="stable")
        forced = int(np.isinf(expected).sum())
        parts: list[Scored] = []
        places: list[int] = []
        while len(places) < min(self.most, len(rest)) or len(places) < forced:
            end = max(forced, min(len(places) + self.verify, self.most))
            chunk = order[len(places) : end]
            chunk = np.sort(chunk)
            part = yield from value(joined(walk.picked_N, rest[chunk]))
            parts.append(part)
            places += chunk.tolist()
            seen = part.value_C.numpy()
            errors += (seen - expected[chunk])[np.isfinite(expected[chunk])].tolist()
            if len(places) < len(rest) and len(errors) >= FEW:
                recent = np.array(errors[-RECENT:])
                best = max(float(p.value_C.max()) for p in parts)
                ahead = expected[order[len(places)]] + recent.mean() + self.spread * recent.std()
                if best >= ahead:
                    break
        sorted_places = np.argsort(places, kind="stable")
        scored = Scored.cat(parts)[sorted_places]
        players = rest[np.array(places)[sorted_places]]
        look.told(walk, players, scored.value_C.numpy())
        best = first_best(scored.value_C, value.tie)
        walk.take(int(players[best]), scored[best : best + 1])
        return scored[best : best + 1]

    def _is_saturated(self, scored: Scored) -> bool:
        if self.saturated is None:
            return False
        shown, left = scored.shown, scored.left
        enough = shown is None or float(shown.probability_C[0]) >= self.saturated
        return enough and (left is None or float(left.probability_C[0]) <= 1 - self.saturated)
