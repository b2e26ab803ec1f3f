"""Neighbours of an order change places where the set between them is worth more by it.

Of an order ... a, b ... only the set that ends with a is another once b stands before a, so one
value says whether the curve gains, and no exchange takes anything from it. From the front on: who
came too early is handed on for as long as that pays. Greedy search's order has nothing to gain,
but for equals: each of its sets is the best of those that its predecessor can become.
"""

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch

from pipeline.game import Ask
from pipeline.scores import Scored, SetFunction


class Known:
    """A set function that asks for no set twice."""

    def __init__(self, value: SetFunction):
        self.value = value
        self._found: dict[bytes, Scored] = {}

    def __call__(self, sets_CN: np.ndarray) -> Generator[Ask, Any, Scored]:
        """Coroutine: F of sets (C, N)."""
        keys = [row_N.tobytes() for row_N in np.packbits(sets_CN, axis=1)]
        new = {key: row for row, key in enumerate(keys) if key not in self._found}
        if new:
            scored = yield from self.value(torch.from_numpy(sets_CN[list(new.values())]))
            for place, key in enumerate(new):
                self._found[key] = scored[place : place + 1]
        return Scored.cat([self._found[key] for key in keys])


def exchanged(
    front: Sequence[int], tail: list[int], path: list[Scored], known: Known, most: int
) -> Generator[Ask, Any, None]:
    """Coroutine: players of `tail`, which stand behind those of `front`, in sets of at most `most`
    players; `path`: F after each of the tail. Both are changed in place."""
    set_N = np.zeros(len(front) + len(tail), dtype=bool)
    set_N[list(front)] = True
    for place in range(min(most - len(front), len(tail) - 1)):
        other_N = set_N.copy()
        other_N[tail[place + 1]] = True
        other = yield from known(other_N[None])
        if other.value_C[0] > path[place].value_C[0] + known.value.tie:
            tail[place : place + 2] = tail[place + 1], tail[place]
            path[place] = other
        set_N[tail[place]] = True
