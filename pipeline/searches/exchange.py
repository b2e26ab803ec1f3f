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
    order: list[int], path: list[Scored], n_players: int, value: SetFunction, below: float
) -> Generator[Ask, Any, None]:
    """Coroutine: where F is less than `below`; `path`: F after each of the order. Both are changed
    in place."""
    set_N = np.zeros(n_players, dtype=bool)
    for place, player in enumerate(order[1:]):
        if path[place].value_C[0] < below:
            other = yield from value(joined(set_N, np.array([player])))
            if other.value_C[0] > path[place].value_C[0] + value.tie:
                order[place : place + 2] = player, order[place]
                path[place] = other
        set_N[order[place]] = True
