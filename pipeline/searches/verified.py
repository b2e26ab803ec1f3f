"""Verified precision: sets are scored in reduced precision, fp32 decides among the best of them.

Whatever lies within 2 delta (and a tie) of the best is asked for again in fp32. Delta is the 99.9 %
quantile of all differences met on this image: those of its first question, which is answered in
both, and of every set asked for again. It is the image's own, so that an order does not depend on
what else a worker computes. Where more than half is asked for again, all is fp32 from then on.
"""

from collections.abc import Generator
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.game import Ask, Coalitions
from pipeline.game.arena import asking
from pipeline.game.rough import Roughly
from pipeline.scores import Scored, SetFunction, chance

QUANTILE = 0.999
MOST = 0.5
"""Share asked for again beyond which reduced precision saves nothing."""

T = TypeVar("T")


class Verified:
    """A set function of which only the best of each question counts: that is fp32's, outputs and
    all; what was not asked for again is minus infinity."""

    def __init__(self, value: SetFunction):
        self._value = value
        self.start, self.tie = value.start, value.tie
        self._differences: list[float] = []
        self.scored = self.again = 0

    @property
    def delta(self) -> float:
        """In units of F."""
        return float(np.quantile(self._differences, QUANTILE, method="higher"))

    @property
    def details(self) -> dict[str, float]:
        """What a row says: `delta`, the share `recomputed` of what was scored roughly."""
        share = self.again / self.scored if self.scored else 1.0
        return {"delta": self.delta, "recomputed": round(share, 4)}

    def __call__(self, picked_CN: Tensor) -> Generator[Ask, Any, Scored]:
        """Coroutine: F of sets, exact wherever it may be the best."""
        if self._differences and self.scored and self.again > MOST * self.scored:
            return (yield from self._value(picked_CN))
        near = yield from roughly(self._value(picked_CN))
        if not self._differences:
            exact = yield from self._value(picked_CN)
            self._learn(exact, near)
            return exact
        self.scored += len(near)
        rough_C, known_C = near.value_C.numpy(), np.zeros(len(near), dtype=bool)
        bar = rough_C.max() - self.tie
        parts, places = [near], np.arange(len(near))
        while (more_C := (rough_C >= bar - 2 * self.delta) & ~known_C).any():
            rows = torch.from_numpy(more_C.nonzero()[0])
            exact = yield from self._value(picked_CN[rows])
            self._learn(exact, near[rows])
            self.again += len(rows)
            places[more_C] = sum(map(len, parts)) + np.arange(len(rows))
            parts.append(exact)
            known_C |= more_C
        found = Scored.cat(parts)[places]
        value_C = found.value_C.masked_fill(torch.from_numpy(~known_C), -torch.inf)
        return replace(found, value_C=value_C)

    def chance(self, scored: Scored) -> float | None:
        """The set function's."""
        return chance(self._value, scored)

    def _learn(self, exact: Scored, near: Scored) -> None:
        self._differences += (exact.value_C - near.value_C).abs().tolist()


def roughly(coroutine: Generator[Ask, Any, T]) -> Generator[Any, Any, T]:
    """Coroutine: the same, but coalitions are answered in reduced precision."""
    return asking(coroutine, lambda ask: Roughly(ask) if isinstance(ask, Coalitions) else ask)
