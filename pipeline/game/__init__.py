"""One image's set game: what a coroutine may ask of it, and what it is told.

A coroutine of a score, search, method or judge yields an `Ask` and is sent the answer: for
`Coalitions` their `Outputs`, for a `Request` what its program says. It knows nothing of batches,
devices or Ray, so `drive` can answer it from any callable.
"""

import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.engine import Program, Request
from pipeline.players import View

Objective = Literal["insertion", "deletion"]
OBJECTIVES: tuple[Objective, ...] = ("insertion", "deletion")

Read = Literal["log_odds", "probability", "logit"]
"""What of the target's output counts."""

TOP = -1
"""In place of a class: each row's own prediction."""


class Reads(NamedTuple):
    """What is read of each row: logits and log-odds of `classes`, the target first, and where asked
    for the entropy of all classes (nats) and the features before the classifier."""

    classes: tuple[int, ...] = ()
    entropy: bool = False
    features: bool = False


class Ask(Protocol):
    """A question of a coroutine: coalitions of its game, or a request to any program."""

    @property
    def sets(self) -> int:
        """Coalitions asked for."""
        ...

    def at(self, seat: "Seat") -> Request:
        """What the engine is asked, from where the coroutine plays."""
        ...


class Seat(Protocol):
    """Where a game is played: knows image, masking and classes."""

    def request(self, asked: "Coalitions") -> Request:
        """Coalitions as rows of a program."""
        ...


@dataclass(frozen=True)
class Coalitions:
    """A question to the game: coalitions (C, N), True = visible, and what to read besides the
    game's own classes."""

    coalitions_CN: Tensor
    entropy: bool = False
    features: bool = False

    @property
    def sets(self) -> int:
        """How many."""
        return self.coalitions_CN.shape[0]

    def at(self, seat: Seat) -> Request:
        """Under the masking that is played with there."""
        return seat.request(self)


@dataclass(frozen=True)
class Elsewhere:
    """A question: what the coroutine `play` returns in another game of the same image.

    `cut`: its players, of the view, None for those of the game that asks; `masking`: None for the
    one that is played with there; `through`: makes another program of each that is asked, such as
    one that runs a changed model. It has no rows of its own.
    """

    play: Callable[["Game"], "Play"]
    cut: Callable[[View], Tensor] | None = None
    masking: Any = None
    through: Callable[[Program], Program] | None = None
    sets = 0

    def at(self, seat: Seat) -> Request:
        """Only who plays the image's games can answer."""
        raise TypeError("the game has no image that could be cut or shown otherwise")


def as_asked(outputs: "Outputs", ask: Coalitions) -> "Outputs":
    """Without what was read besides: answers to one question are alike, whoever gives them."""
    if outputs.features_CD is not None and not ask.features:
        outputs = replace(outputs, features_CD=None)
    if outputs.has_entropy and not ask.entropy:
        outputs = replace(outputs, has_entropy=False)
    return outputs


Play = Generator[Ask, Any, Any]
"""A coroutine of a game."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """The model's answer to C coalitions, read out for T classes (the target first), on the CPU.

    `read_CR` holds all that is read of a row in R = 2T + 2 columns of one NumPy array, which a step
    of a search cuts ten times as fast as five tensors: `logits_CT`, `log_odds_CT` = z_t - logsumexp
    of all other logits, `prediction_C` = argmax over all `n_classes`, `entropy_C`; `features_CD`
    lie beside it. The last two are there where they were asked for. `of` makes one of its columns.
    """

    classes: tuple[int, ...]
    read_CR: np.ndarray
    n_classes: int = 0
    features_CD: Tensor | None = None
    has_entropy: bool = False

    @classmethod
    def of(
        cls,
        classes: tuple[int, ...],
        logits_CT: Tensor,
        log_odds_CT: Tensor,
        prediction_C: Tensor,
        n_classes: int = 0,
        entropy_C: Tensor | None = None,
        features_CD: Tensor | None = None,
    ) -> "Outputs":
        """Of its columns."""
        last = prediction_C if entropy_C is None else entropy_C
        read_CR = torch.cat([logits_CT, log_odds_CT, prediction_C[:, None], last[:, None]], 1)
        return cls(classes, read_CR.numpy(), n_classes, features_CD, entropy_C is not None)

    @property
    def logits_CT(self) -> Tensor:
        """Of the classes read."""
        return torch.from_numpy(self.read_CR[:, : len(self.classes)])

    @property
    def log_odds_CT(self) -> Tensor:
        """Of the classes read."""
        return torch.from_numpy(self.read_CR[:, len(self.classes) : -2])

    @property
    def prediction_C(self) -> Tensor:
        """The class of the largest logit."""
        return torch.from_numpy(self.read_CR[:, -2]).long()

    @property
    def entropy_C(self) -> Tensor | None:
        """In nats, where it was asked for."""
        return torch.from_numpy(self.read_CR[:, -1]) if self.has_entropy else None

    @property
    def value_C(self) -> Tensor:
        """The value function v: log-odds of the target, or a scalar output itself."""
        return torch.from_numpy(self.read_CR[:, len(self.classes)])

    @property
    def is_scalar(self) -> bool:
        """Whether v is a number that is no class's, so that nothing is probable or predicted."""
        return self.n_classes == 1

    @property
    def probability_C(self) -> Tensor:
        """Of the target, float64: v is log p/(1 - p). Raises UsageError for a scalar output."""
        if self.is_scalar:
            raise UsageError(
                "model.output=scalar: the model's output is no probability; choose what reads "
                "log-odds, which hold it"
            )
        return self.value_C.double().sigmoid()

    @property
    def top1_C(self) -> Tensor:
        """Where the target is the model's prediction."""
        return torch.from_numpy(self.read_CR[:, -2] == self.classes[0])

    def reading(self, read: Read) -> Tensor:
        """The target's log-odds, probability or logit, float64 (C,)."""
        if read == "logit":
            return self.logits_CT[:, 0].double()
        return self.probability_C if read == "probability" else self.value_C.double()

    def __len__(self) -> int:
        return len(self.read_CR)

    def __getitem__(self, rows: Any) -> "Outputs":
        features_CD = None if self.features_CD is None else self.features_CD[rows]
        read_CR = self.read_CR[rows]
        return Outputs(self.classes, read_CR, self.n_classes, features_CD, self.has_entropy)

    @classmethod
    def cat(cls, parts: Sequence["Outputs"]) -> "Outputs":
        """Rows of all parts, in order; all read out alike."""
        first, features = parts[0], [part.features_CD for part in parts]
        features_CD = None if first.features_CD is None else torch.cat(features)  # type: ignore[arg-type]
        read_CR = np.concatenate([part.read_CR for part in parts])
        return cls(first.classes, read_CR, first.n_classes, features_CD, first.has_entropy)


@dataclass(frozen=True, kw_only=True)
class Game:
    """One image's game under one masking.

    `ends` answers the empty and the full coalition, at no further cost. `share_N`: each player's
    fraction of the pixels. `view`, `regions_HW` (the player of each pixel): the image itself, where
    there is one. `verified`: what is only to be beaten may be asked in reduced precision
    (`pipeline.searches.verified`).
    """

    n_players: int
    key: str
    ends: Outputs
    share_N: Tensor = field(default_factory=lambda: torch.zeros(0))
    view: View | None = None
    regions_HW: Tensor | None = None
    verified: bool = False

    @property
    def target(self) -> int:
        """The class explained."""
        return self.ends.classes[0]

    def rng(self, seed: int) -> np.random.Generator:
        """Randomness that belongs to the sample, whichever worker plays the game."""
        return sample_rng(seed, self.key)


def sample_rng(seed: int, key: str, *more: int) -> np.random.Generator:
    """Randomness that belongs to a sample (and to `more`, a trial), on whichever worker."""
    return np.random.default_rng([seed, zlib.crc32(key.encode()), *more])


def ends_of(n_players: int) -> Tensor:
    """The empty and the full coalition, bool (2, N)."""
    return torch.tensor([[False], [True]]).expand(2, n_players)


def toy(
    value: Callable[[Tensor], Any], n_players: int, *, key: str = ""
) -> tuple[Game, Callable[[Ask], Any]]:
    """A game without a model, and what answers its questions.

    `value` maps coalitions (C, N) to values (C,), the log-odds of class 0, or to `Outputs`.
    """

    def answer(ask: Any) -> Outputs:
        found = value(ask.coalitions_CN)
        if isinstance(found, Outputs):
            return as_asked(found, ask)
        value_C1 = torch.as_tensor(found).double()[:, None]
        return Outputs.of((0,), value_C1, value_C1, (value_C1[:, 0] <= 0).long(), 2)

    ends = answer(Coalitions(ends_of(n_players), entropy=True))
    share_N = torch.full((n_players,), 1 / n_players, dtype=torch.float64)
    return Game(n_players=n_players, key=key, ends=ends, share_N=share_N), answer


def drive(coroutine: Play, answer: Callable[[Any], Any]) -> Any:
    """Answer whatever a coroutine asks; returns what it returns."""
    reply = None
    while True:
        try:
            ask = coroutine.send(reply)
        except StopIteration as stop:
            return stop.value
        reply = answer(ask)


T = TypeVar("T")


def tallied(coroutine: Generator[Ask, Any, T]) -> Generator[Ask, Any, tuple[T, int]]:
    """What a coroutine returns, and how many coalitions it asked for."""
    reply, asked = None, 0
    while True:
        try:
            ask = coroutine.send(reply)
        except StopIteration as stop:
            return stop.value, asked
        asked += ask.sets
        reply = yield ask
