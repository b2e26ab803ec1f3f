"""Neighbours of an order change places where the set between them is worth more by it.

Of an order ... a, b ... only the set that ends with a is another once b stands before a, so one
value says whether the curve gains, and no exchange takes anything from it. From the front on: who
came too early is handed on for as long as that pays. Greedy search's order has nothing to gain,
but for equals: each of its sets is the best of those that its predecessor can become.
"""

from collections.abc import Generator
from typing import Any

import numpy as np

from pipeline.game import Ask
from pipeline.scores import Scored, SetFunction
from pipeline.searches import joined


def exchanged(
    front_N: np.ndarray, tail: list[int], path: list[Scored], value: SetFunction, below: float
) -> Generator[Ask, Any, None]:
    """Coroutine: players of `tail`, which stand behind those of `front_N`, where F is less than
    `below`; `path`: F after each of the tail. Both are changed in place."""
    set_N = front_N.copy()
    for place, player in enumerate(tail[1:]):
        if path[place].value_C[0] < below:
            other = yield from value(joined(set_N, np.array([player])))
            if other.value_C[0] > path[place].value_C[0] + value.tie:
                tail[place : place + 2] = player, tail[place]
                path[place] = other
        set_N[tail[place]] = True
