"""Rows that wait for a batch, and how large a batch may be."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Entry(NamedTuple):
    """Some rows, by their places, of a request on its way."""

    pending: Any
    places: np.ndarray


@dataclass(eq=False)
class Pool:
    """Rows that may share a batch, first come, first served."""

    rows: int = 0
    entries: deque[Entry] = field(default_factory=deque)

    def put(self, entry: Entry, *, front: bool = False) -> None:
        """Add rows, at the back unless they were here before."""
        self.rows += len(entry.places)
        (self.entries.appendleft if front else self.entries.append)(entry)

    def drop(self, pending: Any) -> None:
        """Forget a request's rows."""
        self.entries = deque(entry for entry in self.entries if entry.pending is not pending)
        self.rows = sum(len(entry.places) for entry in self.entries)

    def take(self, limit: int) -> list[Entry]:
        """At most `limit` rows from the front; the last request may be cut."""
        taken = []
        while self.entries and limit:
            entry = self.entries.popleft()
            self.rows -= len(entry.places)
            if len(entry.places) > limit:
                self.put(Entry(entry.pending, entry.places[limit:]), front=True)
                entry = Entry(entry.pending, entry.places[:limit])
            taken.append(entry)
            limit -= len(entry.places)
        return taken


TRIES = 3
"""Full batches of a size whose best says how fast it is: others may keep the machine busy."""


@dataclass(eq=False)
class Budget:
    """Tokens of one program's batches; grows, to `most` at the most, while larger batches are
    faster per token."""

    tokens: int
    growing: bool
    most: int | None = None
    best_rate: float = 0.0
    rates: list[float] = field(default_factory=list)

    def settled(self, tokens: int, seconds: float) -> None:
        """Double for as long as full batches are at least 5 % faster per token than those of half
        the size, and go back to the last that were."""
        if not self.growing or tokens <= 0.9 * self.tokens:
            return
        self.rates.append(tokens / seconds)
        if len(self.rates) < TRIES:
            return
        rate, self.rates = max(self.rates), []
        if rate <= 1.05 * self.best_rate:
            self.tokens //= 2
            self.growing = False
        elif self.most is not None and 2 * self.tokens > self.most:
            self.growing = False
        else:
            self.best_rate = rate
            self.tokens *= 2

    def halve(self, tokens: int) -> None:
        """So many did not fit."""
        self.tokens = max(1, tokens // 2)
        self.growing = False


def quadratic(counted: Mapping[int, float], length: int) -> float:
    """FLOPs of a row, a quadratic in its length (attention is), through three counted lengths."""
    if length in counted:
        return counted[length]
    (a, fa), (b, fb), (c, fc) = counted.items()
    x = length
    return (
        fa * (x - b) * (x - c) / ((a - b) * (a - c))
        + fb * (x - a) * (x - c) / ((b - a) * (b - c))
        + fc * (x - a) * (x - b) / ((c - a) * (c - b))
    )
