"""What has been asked of a game is not asked again: beams meet in one set, and what one side of a
score leaves visible, the other may have shown."""

from bisect import bisect_right
from collections.abc import Generator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.game import Ask, Coalitions, Outputs, as_asked, ends_of

T = TypeVar("T")


def remembered(
    coroutine: Generator[Ask, Any, T], n_players: int, ends: Outputs | None = None
) -> Generator[Ask, Any, T]:
    """Coroutine: the same, but only coalitions that are new are asked for.

    `ends`: the empty and the full coalition, where they are known. Answers, features too, are kept
    until the coroutine returns.
    """
    memory, reply = _Memory(), None
    if ends is not None:
        memory.keep(_keys(ends_of(n_players)), ends)
    while True:
        try:
            ask = coroutine.send(reply)
        except StopIteration as stop:
            return stop.value
        reply = (yield from memory.answer(ask)) if isinstance(ask, Coalitions) else (yield ask)


class _Place(NamedTuple):
    """A row of an earlier answer."""

    outputs: Outputs
    row: int

    def tells(self, ask: Coalitions) -> bool:
        """Whether all that is asked was read of it."""
        return (self.outputs.has_entropy or not ask.entropy) and (
            self.outputs.features_CD is not None or not ask.features
        )


class _Memory:
    """Answers by coalition. A search seldom asks for what is known: only then rows are looked at
    one by one."""

    def __init__(self):
        self._numbers: dict[bytes, int] = {}
        self._answers: list[Outputs] = []
        self._firsts = [0]

    def keep(self, keys: list[bytes], outputs: Outputs) -> None:
        """Answers to coalitions, one a key."""
        if outputs.features_CD is not None:  # a view would keep those of the whole batch
            outputs = replace(outputs, features_CD=outputs.features_CD.clone())
        first = self._firsts[-1]
        self._numbers.update(zip(keys, range(first, first + len(keys)), strict=True))
        self._answers.append(outputs)
        self._firsts.append(first + len(keys))

    def answer(self, ask: Coalitions) -> Generator[Ask, Any, Outputs]:
        """Coroutine: ask for what is not known."""
        keys = _keys(ask.coalitions_CN)
        if self._numbers.keys().isdisjoint(keys) and len(set(keys)) == len(keys):
            outputs: Outputs = yield ask
            self.keep(keys, outputs)
            return as_asked(outputs, ask)
        new: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in self._numbers or not self._place(key).tells(ask):
                new.setdefault(key, row)
        if new:
            rows = torch.tensor(list(new.values()))
            asked = Coalitions(ask.coalitions_CN[rows], ask.entropy, ask.features)
            self.keep(list(new), (yield asked))
        return _gathered([self._place(key) for key in keys], ask)

    def _place(self, key: bytes) -> _Place:
        number = self._numbers[key]
        at = bisect_right(self._firsts, number) - 1
        return _Place(self._answers[at], number - self._firsts[at])


def _gathered(places: list[_Place], ask: Coalitions) -> Outputs:
    """Rows of several answers as one."""
    first = places[0].outputs
    features_CD = None
    if ask.features:
        features_CD = torch.stack([p.outputs.features_CD[p.row] for p in places])  # type: ignore[index]
    read_CR = np.stack([place.outputs.read_CR[place.row] for place in places])
    return Outputs(first.classes, read_CR, first.n_classes, features_CD, ask.entropy)


def _keys(coalitions_CN: Tensor) -> list[bytes]:
    """A name for each coalition."""
    packed_CB = np.packbits(coalitions_CN.numpy(), axis=1)
    return packed_CB.view(f"V{packed_CB.shape[1]}").ravel().tolist()
