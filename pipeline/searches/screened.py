"""Screened greedy search: a probe ranks the candidates, exact evaluation decides among the first.

A step verifies candidates, who may improve on the best so far the most first, until all others
together are expected to improve on it by no more than `risk`. What they are expected to be worth is
the probe's word, corrected by what it was wrong by (`doubt`). While the prediction is saturated
nobody is verified but the first of all, several steps at once; the curve is evaluated all the same.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from pipeline import UsageError
from pipeline.game import Ask, Game
from pipeline.identity import LATER
from pipeline.scores import Scored, SetFunction, slope
from pipeline.searches import Found, Stop, Walk, first_best, joined, prefixes
from pipeline.searches.doubt import Doubt
from pipeline.searches.probes import Probe
from pipeline.searches.probes.stale import Stale


@dataclass(frozen=True, kw_only=True)
class Screened:
    """`risk`: what a step may be expected to lose, in the target's probability where F is log-odds,
    else in F; as every step weighs 1/n in the area under the curve, it is of the size of the area
    lost. `verify`: candidates verified at a time, `most`: in a step. `saturated`: once the target's
    probability is at least this (insertion), or at most 1 minus it (deletion), for `patience`
    steps, as many next ones are taken unverified while it is; None: never. `sets`: what the whole
    order may take at the most, a set for each player and the probe's looks at the least, and steps
    in which all are verified have the first of what is left; None: as many as `risk` asks for.
    `details` say after how many players the `tail` began, from where on nobody was verified; None:
    nowhere."""

    version: ClassVar[int] = 2
    probe: Probe = field(default_factory=Stale)
    risk: float = 0.01
    verify: int = 2
    most: int = 8
    saturated: float | None = 0.99
    patience: int = 3
    sets: int | None = field(default=None, metadata=LATER)

    def __post_init__(self):
        for name in ("verify", "most", "patience"):
            if getattr(self, name) < 1:
                raise UsageError(f"search.{name}={getattr(self, name)}: give 1 or more")
        if self.sets is not None and self.sets < 1:
            raise UsageError(f"search.sets={self.sets}: give 1 or more, or null")
        if self.risk < 0:
            raise UsageError(f"search.risk={self.risk}: give 0 (up to search.most) or more")
        if self.saturated is not None and not 0.5 < self.saturated < 1:
            raise UsageError(
                f"search.saturated={self.saturated}: give a probability between .5 and 1, or null"
            )

    def forwards(self, n_players: int, per_set: int, stop: Stop) -> int:
        """A step's candidates, and the probe's looks."""
        rests = {step: n_players - step for step in range(stop.most(n_players))}
        whole = self.probe.verifies_all
        sets = sum(rest if whole(step) else min(self.most, rest) for step, rest in rests.items())
        wasted, looks = len(rests) if self.saturated else 0, self.probe.forwards(len(rests))
        most = sets + wasted + looks
        if self.sets is not None:
            most = min(most, max(self.sets, len(rests) + looks))
        return per_set * most

    def __call__(self, value: SetFunction, game: Game, stop: Stop) -> Generator[Ask, Any, Found]:
        """Pick one player a step, or several where nothing is left to win."""
        walk, look = Walk(value, game, stop), self.probe.open(value, game)
        purse = Purse(self.sets, walk.left + self.probe.forwards(walk.left))
        doubt, of_passes = Doubt(game.n_players), Doubt(game.n_players)
        calm, tail = 0, None
        while not walk.done:
            strides = calm >= self.patience and purse.spare >= 1
            base_C = yield from look(walk, ask=not strides)
            doubts = [doubt, of_passes] if look.renewed else [doubt]
            if walk.order:
                for one in doubts:
                    one.move(base_C + one.mean_N[walk.rest])
            if look.renewed:
                doubt.follow(of_passes)
            if strides:
                tail = len(walk.order) if tail is None else tail
                ranked = np.argsort(-(base_C + doubt.mean_N[walk.rest]), kind="stable")
                stays = yield from self._stride(walk, value, walk.rest[ranked], purse)
                calm = calm if stays else 0
                continue
            scored = yield from self._step(walk, value, base_C, doubts, purse)
            calm, tail = calm + 1 if self._is_saturated(scored) else 0, None
        details = None if self.saturated is None else {"tail": tail}
        return Found(order=walk.order, path=walk.path, details=details)

    def _step(
        self,
        walk: Walk,
        value: SetFunction,
        base_C: np.ndarray,
        doubts: list[Doubt],
        purse: "Purse",
    ) -> Generator[Ask, Any, Scored]:
        """Verify until the others are not worth it; pick; F with the picked. The first of `doubts`
        is believed, all of them see what is verified."""
        rest, doubt = walk.rest, doubts[0]
        whole = self.probe.verifies_all(len(walk.order))
        most = int(min(len(rest) if whole else self.most, len(rest), 1 + purse.spare))
        open_C, parts = np.ones(len(rest), dtype=bool), []
        order: list[np.ndarray] = []
        while (left := most - int((~open_C).sum())) > 0:
            hope_C = base_C + doubt.mean_N[rest]
            if parts:
                best = max(parts, key=lambda part: float(part.value_C.max()))
                best = best[(at := int(best.value_C.argmax())) : at + 1]
                hope_C = improvement(hope_C, doubt.spread(rest), float(best.value_C[0]))
                if slope(value, best) * hope_C[open_C].sum() <= self.risk:
                    break
            ranked = np.argsort(-np.where(open_C, hope_C, -np.inf), kind="stable")
            chunk = np.sort(ranked[: left if whole else min(self.verify, left)])
            part = yield from value(joined(walk.picked_N, rest[chunk]))
            for one in doubts:
                one.see(rest[chunk], part.value_C.numpy() - base_C[chunk])
            open_C[chunk] = False
            parts.append(part)
            order.append(chunk)
        places = np.concatenate(order)
        purse.pay(len(places), picked=1)
        by_place = np.argsort(places, kind="stable")
        scored, players = Scored.cat(parts)[by_place], rest[places[by_place]]
        first = first_best(scored.value_C, value.tie)
        walk.take(int(players[first]), scored[first : first + 1])
        return scored[first : first + 1]

    def _stride(
        self, walk: Walk, value: SetFunction, ranked_C: np.ndarray, purse: "Purse"
    ) -> Generator[Ask, Any, bool]:
        """Take the next of these players while the prediction stays saturated; whether it did."""
        next_ones = ranked_C[: int(min(self.patience, walk.left, purse.spare))].tolist()
        sets_CN = prefixes([*walk.order, *next_ones], len(walk.picked_N))[-len(next_ones) :]
        scored = yield from value(sets_CN)
        stays = [self._is_saturated(one) for one in scored.rows]
        taken = stays.index(False) if False in stays else len(stays)
        purse.pay(len(stays), picked=taken)
        walk.follow(next_ones[:taken], scored.rows[:taken])
        return walk.done or taken == len(stays)

    def _is_saturated(self, scored: Scored) -> bool:
        if self.saturated is None:
            return False
        shown, left = scored.shown, scored.left
        enough = shown is None or float(shown.probability_C[0]) >= self.saturated
        return enough and (left is None or float(left.probability_C[0]) <= 1 - self.saturated)


class Purse:
    """Sets to `spare` beside those that must be: one for each player to come, the probe's looks."""

    def __init__(self, sets: int | None, must: int):
        self.spare = np.inf if sets is None else max(sets - must, 0)

    def pay(self, sets: int, *, picked: int) -> None:
        """For sets that so many players were picked from."""
        self.spare -= sets - picked


def improvement(mean_C: np.ndarray, spread_C: np.ndarray, best: float) -> np.ndarray:
    """E max(x - best, 0) of normal x (C,): what is hoped for of each."""
    safe_C = np.maximum(spread_C, 1e-12)
    z_C = (mean_C - best) / safe_C
    density_C = np.exp(-(z_C**2) / 2) / np.sqrt(2 * np.pi)
    return safe_C * (density_C + z_C * torch.special.ndtr(torch.from_numpy(z_C)).numpy())
