"""What can be asked of an engine: programs, batched computations over rows of many images."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from pipeline.models import Model

Spent = Callable[[int], None]
"""Told of forwards as they are done."""


class Rows(Protocol):
    """Rows of one image."""

    def __len__(self) -> int: ...

    def take(self, places: np.ndarray) -> "Rows":
        """Some of the rows."""
        ...


class Program(Protocol):
    """A batched computation: set games, heatmaps, masks. Equal programs share batches, so a program
    is a frozen dataclass of all that decides what it computes."""

    def lengths(self, model: Model, rows: Any) -> int | np.ndarray:
        """What each row weighs in the budget in tokens, or one number for all; rows of one length
        share a batch. On the host."""
        ...

    def launch(self, model: Model, pieces: list[Any], spent: Spent) -> Any:
        """Compute all rows of all pieces; on a GPU without waiting for it. Returns what has landed,
        or will have, once the device gets here (`pipeline.engine.device.to_host`)."""
        ...

    def answer(self, landed: Any, pieces: list[Any]) -> list[Any]:
        """An answer for each piece, on the host."""
        ...

    def join(self, answers: list[Any], order: np.ndarray) -> Any:
        """One answer of several, which together answer a request; `order` sorts their rows."""
        ...


class Listed(tuple):
    """Rows that are any objects."""

    def take(self, places: np.ndarray) -> "Listed":
        """Some of the rows."""
        return Listed(self[i] for i in places.tolist())


class PerRow:
    """What programs share whose rows are `Listed` and whose answers are lists, an item a row.

    A subclass gives `lengths` and `launch`, which returns a sequence of items.
    """

    def answer(self, landed: Sequence[Any], pieces: list[Listed]) -> list[list[Any]]:
        """Each piece's items."""
        source = iter(landed)
        return [[next(source) for _ in piece] for piece in pieces]

    def join(self, answers: list[list[Any]], order: np.ndarray) -> list[Any]:
        """All items, in the order of the rows."""
        items = [item for answer in answers for item in answer]
        return [items[i] for i in order.tolist()]
