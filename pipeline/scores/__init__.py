"""What a set of players is worth: a score opens a game as a set function, which searches maximise.

F maps the picked set S to a value, larger is better, whatever the objective: insertion looks at S,
deletion at all others, a submodular score at both.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pipeline.game import Ask, Game, Objective, Outputs


@dataclass(frozen=True)
class Scored:
    """F of C sets. `shown`, `left`: the model's outputs where the picked players, or all others,
    are visible, for those of the two that F looks at. `reached_C`: where the prediction is what the
    score wants it to be."""

    value_C: Tensor
    reached_C: Tensor
    shown: Outputs | None = None
    left: Outputs | None = None

    def __len__(self) -> int:
        return self.value_C.shape[0]

    def __getitem__(self, rows: Any) -> "Scored":
        return Scored(
            self.value_C[rows],
            self.reached_C[rows],
            None if self.shown is None else self.shown[rows],
            None if self.left is None else self.left[rows],
        )

    @property
    def rows(self) -> list["Scored"]:
        """One for each set."""
        return [self[row : row + 1] for row in range(len(self))]

    @classmethod
    def cat(cls, parts: Sequence["Scored"]) -> "Scored":
        """Rows of all parts, at least one, in order."""

        def joined(name: str) -> Outputs | None:
            outputs = [getattr(part, name) for part in parts]
            return None if outputs[0] is None else Outputs.cat(outputs)

        return cls(
            torch.cat([part.value_C for part in parts]),
            torch.cat([part.reached_C for part in parts]),
            joined("shown"),
            joined("left"),
        )


class SetFunction(Protocol):
    """F of one image's game. `start`: F of the empty set, None where F has none. Values closer than
    `tie` are equal."""

    @property
    def start(self) -> float | None:
        """F(empty)."""
        ...

    @property
    def tie(self) -> float:
        """In units of F."""
        ...

    def __call__(self, picked_CN: Tensor) -> Generator[Ask, Any, Scored]:
        """Coroutine: F of sets, bool (C, N), True = picked."""
        ...


@runtime_checkable
class Chanced(Protocol):
    """A set function that knows a probability that it stands for."""

    def chance(self, scored: Scored) -> float | None:
        """Whose log-odds are F, at one set; None where F is no log-odds."""
        ...


def chance(value: SetFunction, scored: Scored) -> float | None:
    """The probability whose log-odds are F, at one set; None where F is no log-odds."""
    return value.chance(scored) if isinstance(value, Chanced) else None


def slope(value: SetFunction, scored: Scored) -> float:
    """What a unit of F is in probability, at one set; 1 where F is no log-odds."""
    p = chance(value, scored)
    return 1.0 if p is None else p * (1 - p)


def height(value: SetFunction, scored: Scored) -> float:
    """Of the curve at one set: the probability where F is its log-odds, else F."""
    p = chance(value, scored)
    return float(scored.value_C[0]) if p is None else p


def heights(value: SetFunction, path: Iterable[Scored]) -> np.ndarray:
    """Of the curve after each player of an order (K,); `path`: F of one set each."""
    return np.array([height(value, scored) for scored in path])


def rise(value: SetFunction, scored: Scored, more: float) -> float:
    """What the curve rises by at one set if F is `more` larger there."""
    p = chance(value, scored)
    return more if p is None else float((scored.value_C[0] + more).sigmoid()) - p


def drop(value: SetFunction, before: Scored, after: Scored) -> float:
    """What the curve falls by from one set to another."""
    return height(value, before) - height(value, after)


class Score(Protocol):
    """A frozen dataclass. `objectives`: those whose curve F looks at along an order."""

    version: ClassVar[int]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Of the orders that it leads to."""
        ...

    def forwards(self, n_players: int) -> tuple[int, int]:
        """Forwards spent once, and for each set."""
        ...

    def open(self, game: Game) -> Generator[Ask, Any, SetFunction]:
        """Coroutine: ask for what all sets need (features of single regions, say)."""
        ...
