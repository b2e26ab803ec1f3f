"""Settings tried on one made-up image before the first real one: cheap, and as they will be used.

Maskings play two coalitions on the model; what a method asks of other programs (heatmaps) is
computed, coalitions are answered at random; a few questions of each method and judge are enough.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.components import one_line
from pipeline.engine import Engine, Request
from pipeline.game import Ask, Coalitions, Game, Objective, Outputs, as_asked, ends_of
from pipeline.game.arena import Arena, Turn
from pipeline.judges import Judge
from pipeline.masking import Masking
from pipeline.methods import Attribution, Method
from pipeline.methods.heatmaps import Heatmaps
from pipeline.models import Model
from pipeline.models.head import example

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
    image_CHW = example(model.preprocessing["input_size"])[0]
    arena = Arena(model, image_CHW, regions_HW, "")
    engine = Engine(model)
    n_classes = 0
    for name, masking in maskings.items():
        with _named(name):
            n_classes = _run(engine, _opened(arena, masking))
    if isinstance(target, int) and target >= n_classes:
        raise UsageError(f"target={target}: the model has classes 0 to {n_classes - 1}")
    at_random = RandomAnswers(model)
    if prior is not None:
        with _named("players.prior"):
            _run(engine, _few(prior.heat(image_CHW, 0), at_random))
    game = Game(
        n_players=len(arena.share_N),
        key="",
        ends=at_random.ends(),
        share_N=arena.share_N,
        image_CHW=image_CHW,
        regions_HW=regions_HW,
    )
    for name, method in methods.items():
        with _named(f"methods.{name}"):
            _run(engine, _few(method.explain(game), at_random))
    anything = Attribution(order=list(range(game.n_players)), evaluations=0)
    objective: Objective = next(o for method in methods.values() for o in method.objectives)
    with _named("judge"):
        _run(engine, _few(judge.judge(anything, objective, game), at_random))


def answered(
    coroutine: Generator[Ask, Any, Any],
    asked: Callable[[Tensor], None],
    spent: Callable[[float], None],
    at_random: "RandomAnswers",
) -> Turn[Any]:
    """What a coroutine returns whose coalitions (C, N) are told to `asked` and answered at random;
    what else it wants is computed, `spent` told the device seconds."""
    answer: Any = None
    while True:
        try:
            ask = coroutine.send(answer)
        except StopIteration as stop:
            return stop.value
        if ask.sets:
            coalitions: Any = ask.at(_Nowhere())
            asked(coalitions.coalitions_CN)
            answer = at_random(coalitions)
        else:
            reply = yield ask.at(_Nowhere())
            answer = reply.answer
            spent(reply.seconds)


class RandomAnswers:
    """Outputs of a target that never wins, so that no search stops early; features have the
    model's size."""

    def __init__(self, model: Model):
        self._rng = np.random.default_rng(0)
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
        nobody_C = torch.ones(rows, dtype=torch.long)
        entropy_C = torch.from_numpy(self._rng.uniform(0, 1, rows)).float()
        features_CD = torch.from_numpy(self._rng.normal(size=(rows, self._features))).float()
        everything = Outputs.of((0, 2), values_CT, values_CT, nobody_C, 3, entropy_C, features_CD)
        return as_asked(everything, asked)


class _Nowhere:
    """A seat without image or model: coalitions stay what they are."""

    def request(self, asked: Coalitions) -> Any:
        return asked


def _run(engine: Engine, task: Turn[Any]) -> Any:
    (found,) = engine.run([task], in_flight=1)
    return found


def _opened(arena: Arena, masking: Masking) -> Turn[int]:
    """The number of classes; the image with everyone, as it was met first, and with nobody."""
    _, n_classes = yield from arena.meet(masking, None)
    yield from arena.open(masking)
    return n_classes


def _few(coroutine: Generator[Ask, Any, Any], at_random: RandomAnswers) -> Turn[None]:
    """The first questions of a coroutine. A heatmap is computed, then replaced by one that ranks
    every pixel: noise may have none."""

    def questions() -> Generator[Ask, Any, None]:
        answer: Any = None
        for _ in range(QUESTIONS):
            try:
                ask = coroutine.send(answer)
            except StopIteration:
                return
            answer = yield ask
            if isinstance(ask, Request) and isinstance(ask.program, Heatmaps):
                (heat_HW,) = answer
                answer = [torch.arange(heat_HW.numel()).view(heat_HW.shape).float()]

    yield from answered(questions(), lambda coalitions_CN: None, lambda s: None, at_random)


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
