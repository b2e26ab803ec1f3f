"""Settings tried on one made-up image before the first real one: cheap, and as they will be used.

Maskings play two coalitions on the model; what a method asks of other programs (heatmaps) is
computed, coalitions are answered at random; a few questions of each method and judge are enough.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.components import one_line
from pipeline.engine import Engine, Reply, Request
from pipeline.game import (
    Ask,
    Coalitions,
    Elsewhere,
    Game,
    Objective,
    Outputs,
    Seat,
    as_asked,
    ends_of,
)
from pipeline.game.arena import Arena, Turn
from pipeline.judges import Judge
from pipeline.masking import Masking
from pipeline.methods import Attribution, Method
from pipeline.methods.heatmaps import Heatmaps
from pipeline.models import Model
from pipeline.models.head import example
from pipeline.players import View, fractions

QUESTIONS = 4
"""What each method and judge may ask; the last question is left without an answer."""


def rehearse(
    model: Model,
    regions_HW: Tensor,
    *,
    maskings: Mapping[str, Masking],
    methods: Mapping[str, Method],
    judge: Judge,
    target: str | int,
    prior: Any = None,
) -> None:
    """Raise UsageError, which names the setting, for what would fail on every image.

    `maskings` by the names of their settings; `prior`: the method whose heat cuts players.
    """
    view = View(example(model.preprocessing["input_size"])[0], model.preprocessing)
    arena = Arena(model, view, regions_HW, "")
    engine = Engine(model)
    n_classes = 0
    for name, masking in maskings.items():
        with _named(name):
            n_classes = _run(engine, _opened(arena, masking))
    if isinstance(target, int) and target >= n_classes:
        raise UsageError(f"target={target}: the model has classes 0 to {n_classes - 1}")
    at_random = RandomAnswers(model)
    game = made_up(arena, at_random)
    seat = arena.seat(next(iter(maskings.values())))
    if prior is not None:
        with _named("players.prior"):
            _run(engine, _few(prior.heat(view.image_CHW, 0), game, at_random, seat))
    for name, method in methods.items():
        with _named(f"methods.{name}"):
            _run(engine, _few(method.explain(game), game, at_random, seat))
    method = next(iter(methods.values()))
    anything = Attribution(order=list(range(game.n_players)), evaluations=0, method=method)
    objective: Objective = next(iter(method.objectives))
    with _named("judge"):
        _run(engine, _few(judge.judge(anything, objective, game), game, at_random, seat))


def made_up(arena: Arena, at_random: "RandomAnswers") -> Game:
    """An image's game, its end points answered at random."""
    return Game(
        n_players=len(arena.share_N),
        key=arena.key,
        ends=at_random.ends(),
        share_N=arena.share_N,
        view=arena.view,
        regions_HW=arena.regions_HW,
    )


def answered(
    coroutine: Generator[Ask, Any, Any],
    game: Game,
    at_random: "RandomAnswers",
    seat: Seat,
    told: Callable[[Ask, Any], Any] = lambda ask, reply: reply.answer,
) -> Turn[Any]:
    """What a coroutine returns whose coalitions are answered at random, here and elsewhere; what
    else it wants is computed, at `seat`. `told`: of each question and its reply, says what it is
    answered."""
    answer: Any = None
    while True:
        try:
            ask = coroutine.send(answer)
        except StopIteration as stop:
            return stop.value
        if isinstance(ask, Elsewhere):
            play = ask.play(_elsewhere(game, ask))
            answer = yield from answered(play, game, at_random, seat, told)
        elif isinstance(ask, Coalitions):
            answer = told(ask, Reply(at_random(ask), 0.0, 0))
        else:
            answer = told(ask, (yield ask.at(seat)))


def _elsewhere(game: Game, ask: Elsewhere) -> Game:
    """A game of the same image with players of its own."""
    if ask.cut is None or game.view is None:
        return game
    regions_HW = ask.cut(game.view)
    share_N = fractions(regions_HW)
    return replace(game, n_players=len(share_N), share_N=share_N, regions_HW=regions_HW)


class RandomAnswers:
    """Outputs of a target that never wins, so that no search stops early; features have the
    model's size."""

    def __init__(self, model: Model):
        self._rng, self._output = np.random.default_rng(0), model.output
        x_BCHW = example(model.preprocessing["input_size"]).to(model.device, model.dtype)
        with torch.inference_mode():
            self._features = model.encode(x_BCHW).shape[1]

    def ends(self) -> Outputs:
        """Of the end points of a game."""
        return self(Coalitions(ends_of(1), entropy=True))

    def __call__(self, asked: Coalitions) -> Outputs:
        """As asked."""
        rows = asked.sets
        values_CT = torch.from_numpy(self._rng.normal(size=(rows, 2))).float()
        classes, n_classes = ((0,), 1) if self._output == "scalar" else ((0, 2), 3)
        values_CT = values_CT[:, : len(classes)]
        nobody_C = torch.ones(rows, dtype=torch.long)
        entropy_C = torch.from_numpy(self._rng.uniform(0, 1, rows)).float()
        if self._output != "softmax":
            entropy_C = torch.full_like(entropy_C, torch.nan)
        features_CD = torch.from_numpy(self._rng.normal(size=(rows, self._features))).float()
        everything = Outputs.of(
            classes, values_CT, values_CT, nobody_C, n_classes, entropy_C, features_CD
        )
        return as_asked(everything, asked)


def _run(engine: Engine, task: Turn[Any]) -> Any:
    (found,) = engine.run([task], in_flight=1)
    return found


def _opened(arena: Arena, masking: Masking) -> Turn[int]:
    """The number of classes; the image with everyone, as it was met first, and with nobody."""
    _, n_classes = yield from arena.meet(masking, None)
    yield from arena.open(masking)
    return n_classes


class _EnoughError(Exception):
    """Nothing more is asked."""


def _few(
    coroutine: Generator[Ask, Any, Any], game: Game, at_random: RandomAnswers, seat: Seat
) -> Turn[None]:
    """The first questions of a coroutine. A heatmap is computed, then replaced by one that ranks
    every pixel: noise may have none."""
    asked = 0

    def told(ask: Ask, reply: Reply) -> Any:
        nonlocal asked
        asked += 1
        if asked == QUESTIONS:
            raise _EnoughError
        if isinstance(ask, Request) and isinstance(ask.program, Heatmaps):
            (heat_HW,) = reply.answer
            return [torch.arange(heat_HW.numel()).view(heat_HW.shape).float()]
        return reply.answer

    with suppress(_EnoughError):
        yield from answered(coroutine, game, at_random, seat, told)


@contextmanager
def _named(setting: str) -> Iterator[None]:
    """Say which setting it is that cannot work."""
    try:
        yield
    except UsageError as error:
        said = one_line(error)
        known = said.startswith((setting, setting.rpartition(".")[2], "model."))
        raise UsageError(said if known else f"{setting}: {said}") from None
    except Exception as error:
        said = one_line(error)[:200] or type(error).__name__
        raise UsageError(f"{setting}: it cannot work with this model: {said}") from error
