"""Neighbours of an order change places where the set between them is worth more by it.

Of an order ... a, b ... only the set that ends with a is another once b stands before a, so one
value says whether the curve gains, and no exchange takes anything from it. If each added to F at
the other's place what it adds at its own, the curve would rise where b adds more than a: the pair
that promises most is asked of first. Greedy search's order has nothing to gain, but for equals:
each of its sets is the best of those that its predecessor can become.
"""

from collections.abc import Generator
from typing import Any

import numpy as np

from pipeline.game import Ask
from pipeline.scores import Scored, SetFunction, rise
from pipeline.searches import prefixes


def exchanged(
    order: list[int], path: list[Scored], n_players: int, value: SetFunction, promised: float
) -> Generator[Ask, Any, None]:
    """Coroutine: while a pair promises that the curve between them rises by more than `promised`,
    and for as many sets as there are pairs. `path`: F after each of the order. Both are changed in
    place."""
    promise_K = np.array([_promise(path, place, value) for place in range(len(order) - 1)])
    for _ in range(len(promise_K)):
        place = int(promise_K.argmax())
        if promise_K[place] <= promised:
            return
        promise_K[place] = 0
        other = yield from value(prefixes([*order[:place], order[place + 1]], n_players)[-1:])
        if other.value_C[0] > path[place].value_C[0] + value.tie:
            order[place : place + 2] = order[place + 1], order[place]
            path[place] = other
            for beside in (place - 1, place + 1):
                if 0 <= beside < len(promise_K):
                    promise_K[beside] = _promise(path, beside, value)


def _promise(path: list[Scored], place: int, value: SetFunction) -> float:
    """What the curve rises by at a place if its player and the next one add to F what they add now;
    of the first two nothing is known where F has no value before them."""
    before = float(path[place - 1].value_C[0]) if place else value.start
    if before is None:
        return 0.0
    now, after = float(path[place].value_C[0]), float(path[place + 1].value_C[0])
    return rise(value, path[place], (after - now) - (now - before))
