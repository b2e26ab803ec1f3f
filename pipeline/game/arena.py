"""Where one image's games are played: what its coroutines ask becomes requests to the engine."""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.engine import Reply, Request
from pipeline.game import TOP, Ask, Coalitions, Elsewhere, Game, Outputs, Reads, Seat
from pipeline.game.sets import Hands, SetGame
from pipeline.masking import Masking
from pipeline.models import Model
from pipeline.players import View, fractions

T = TypeVar("T")
Turn = Generator[Request, Reply, T]


class Bill(NamedTuple):
    """Device seconds, and tokens of all forwards (256 pixels of a pixel masking are one)."""

    seconds: float
    tokens: int


class Arena:
    """One image, cut into players. `classes` are read out, the target first: `meet` sets them.

    `begun`: what maskings have made of the image beforehand, on another thread.
    """

    def __init__(
        self,
        model: Model,
        view: View,
        regions_HW: Tensor,
        key: str,
        begun: dict[Masking, Any] | None = None,
    ):
        self.model = model
        self.view = view
        self.regions_HW = regions_HW
        self.key = key
        self.share_N = fractions(regions_HW)
        self.classes: tuple[int, ...] = ()
        self._begun = dict(begun or {})
        self._prepared: dict[Masking, Any] = {}
        self._full: Outputs | None = None

    def prepare(self, masking: Masking) -> Turn[None]:
        """Make the image ready to be played with under `masking`, once."""
        if masking in self._prepared:
            return
        if masking not in self._begun:
            self._begun[masking] = masking.begin(self.model, self.view.image_CHW, self.regions_HW)
        steps, reply = masking.prepare(self.model, self._begun.pop(masking)), None
        while True:
            try:
                request = steps.send(reply)
            except StopIteration as stop:
                self._prepared[masking] = stop.value
                return
            reply = (yield request).answer

    def meet(self, masking: Masking, target: int | None) -> Turn[tuple[int, int]]:
        """Evaluate the full coalition, which is the same under any masking: the prediction and the
        number of classes. `target`: the class to explain, None for the prediction."""
        yield from self.prepare(masking)
        everyone_CN = torch.ones(1, len(self.share_N), dtype=torch.bool)
        classes = (TOP,) if target is None else (target, TOP)
        seat = _Seat(SetGame(masking), self._prepared[masking], classes)
        found: Outputs = (yield seat.request(Coalitions(everyone_CN, entropy=True))).answer
        prediction = int(found.prediction_C[0])
        self.classes = tuple(dict.fromkeys((*classes[:-1], prediction)))
        wide = len(self.classes)
        self._full = Outputs.of(
            self.classes,
            found.logits_CT[:, :wide],
            found.log_odds_CT[:, :wide],
            found.prediction_C,
            found.n_classes,
            found.entropy_C,
        )
        return prediction, found.n_classes

    def open(self, masking: Masking) -> Turn[Game]:
        """Evaluate the empty coalition under a masking; `meet` has evaluated the full one."""
        assert self._full is not None
        yield from self.prepare(masking)
        n_players = len(self.share_N)
        nobody_CN = torch.zeros(1, n_players, dtype=torch.bool)
        asked = Coalitions(nobody_CN, entropy=True)
        empty = (yield self.seat(masking).request(asked)).answer
        return Game(
            n_players=n_players,
            key=self.key,
            ends=Outputs.cat([empty, self._full]),
            share_N=self.share_N,
            view=self.view,
            regions_HW=self.regions_HW,
            verified=self.model.verified,
        )

    def play(self, coroutine: Generator[Ask, Any, T], masking: Masking) -> Turn[tuple[T, Bill]]:
        """What a coroutine returns that asks under `masking`, and what it took."""
        seat, answer, seconds, tokens = self.seat(masking), None, 0.0, 0
        while True:
            try:
                ask = coroutine.send(answer)
            except StopIteration as stop:
                return stop.value, Bill(seconds, tokens)
            if isinstance(ask, Elsewhere):
                answer, bill = yield from self._elsewhere(ask, masking)
            else:
                reply = yield ask.at(seat)
                answer, bill = reply.answer, Bill(reply.seconds, reply.tokens)
            seconds, tokens = seconds + bill.seconds, tokens + bill.tokens

    def length(self, masking: Masking, coalitions_CN: Tensor) -> Turn[int]:
        """Tokens of the longest of these rows."""
        yield from self.prepare(masking)
        return int(np.max(masking.lengths(self.model, self._prepared[masking], coalitions_CN)))

    def cut(self, regions_HW: Tensor) -> "Arena":
        """The same image, which has been met, with other players."""
        arena = Arena(self.model, self.view, regions_HW, self.key)
        arena.classes, arena._full = self.classes, self._full
        return arena

    def _elsewhere(self, ask: Elsewhere, masking: Masking) -> Turn[tuple[Any, Bill]]:
        """Players cut here are cut on the engine's thread: what cuts them is known only now."""
        arena = self.cut(self.regions_HW if ask.cut is None else ask.cut(self.view))
        visit = arena._visit(ask, ask.masking or masking)
        if (change := ask.through) is None:
            return (yield from visit)
        return (yield from asking(visit, lambda one: Request(change(one.program), one.rows)))

    def _visit(self, ask: Elsewhere, masking: Masking) -> Turn[tuple[Any, Bill]]:
        if ask.through is not None:  # the whole image is another's as well
            yield from self.meet(masking, self.classes[0])
        game = yield from self.open(masking)
        return (yield from self.play(ask.play(game), masking))

    def seat(self, masking: Masking) -> Seat:
        """Where questions are asked under a masking that is prepared, of the classes known."""
        return _Seat(SetGame(masking), self._prepared[masking], self.classes)


def asking(coroutine: Generator[Any, Any, T], change: Callable[[Any], Any]) -> Turn[T]:
    """Coroutine: the same, but it asks what `change` makes of each question."""
    reply: Any = None
    while True:
        try:
            asked = coroutine.send(reply)
        except StopIteration as stop:
            return stop.value
        reply = yield change(asked)


class _Seat(NamedTuple):
    """A masking's game, the image prepared for it, and the classes to read out."""

    program: SetGame
    prepared: Any
    classes: tuple[int, ...]

    def request(self, asked: Coalitions) -> Request:
        reads = Reads(self.classes, asked.entropy, asked.features)
        return Request(self.program, Hands(self.prepared, asked.coalitions_CN, reads))
