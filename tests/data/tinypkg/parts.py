"""A masking, players, a method, a score and a search of one's own."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pipeline.game import OBJECTIVES, Coalitions
from pipeline.masking.pixels import PixelMasking
from pipeline.methods import Attribution, same_for_all
from pipeline.scores import Scored
from pipeline.searches import Found


@dataclass(frozen=True, kw_only=True)
class Grey(PixelMasking):
    level: float = 0.5

    def fill(self, model, image_CHW):
        return model.normalise(self.level)


@dataclass(frozen=True, kw_only=True)
class Stripes:
    count: int = 4

    def __call__(self, view, heat_HW=None):
        height, width = view.image_CHW.shape[1:]
        return (torch.arange(width) * self.count // width).expand(height, width)


@dataclass(frozen=True, kw_only=True)
class InOrder:
    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def most_forwards(self, n_players):
        return 0

    def explain(self, game):
        yield from ()
        found = Attribution(order=list(range(game.n_players)), evaluations=0)
        return same_for_all(found, self.objectives)


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """The less entropy, the better."""

    version: ClassVar[int] = 1
    objectives = ("insertion",)

    def forwards(self, n_players):
        return 0, 1

    def open(self, game):
        yield from ()
        return Sure()


class Sure:
    start, tie = None, 1e-6

    def __call__(self, picked_CN):
        outputs = yield Coalitions(picked_CN, entropy=True)
        return Scored(-outputs.entropy_C, outputs.top1_C, shown=outputs)


@dataclass(frozen=True, kw_only=True)
class Alone:
    """Players by what they are worth alone."""

    version: ClassVar[int] = 1

    def forwards(self, n_players, per_set, stop):
        return per_set * n_players

    def __call__(self, value, game, stop):
        alone = yield from value(torch.eye(game.n_players, dtype=torch.bool))
        order = torch.argsort(-alone.value_C, stable=True).tolist()
        return Found(order=order[: stop.most(game.n_players)], singles=alone)
