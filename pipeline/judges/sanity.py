"""Does a method look at the model at all? Parameter randomisation (Adebayo et al., NeurIPS 2018).

The image is explained again on a model whose weights are shuffled, each tensor within itself, and
both explanations are compared by rank correlation. Near 1: the method explains one as the other.
"""

import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from pipeline import UsageError
from pipeline.engine import Program, Spent
from pipeline.game import Elsewhere, Game, Objective
from pipeline.judges import Verdict, values
from pipeline.methods import Attribution
from pipeline.models import Model


@dataclass(frozen=True, kw_only=True)
class Sanity:
    """`seed`: of the shuffle, the same for every image. What a method costs is spent again."""

    seed: int = 0

    version: ClassVar[int] = 1
    explains_again: ClassVar[bool] = True

    def forwards(self, n_players: int) -> int:
        """End points of the other game; the method's own come on top."""
        return 2

    def judge(self, found: Attribution, objective: Objective, game: Game) -> Verdict:
        """Spearman's correlation of the players' importance; 0 where the other model's explanation
        ranks nothing."""
        if found.method is None:
            raise UsageError("judge: sanity explains again, and needs to know the method")
        on = partial(OnShuffled, seed=self.seed)
        try:
            other = (yield Elsewhere(found.method.explain, through=on))[objective]
        except ValueError:  # a constant heat map, say
            return {"measure": "sanity", "value": 0.0}
        before_N, after_N = (values(one, game.n_players).numpy() for one in (found, other))
        if np.ptp(before_N) == 0 or np.ptp(after_N) == 0:
            return {"measure": "sanity", "value": 0.0}
        agreement: Any = spearmanr(before_N, after_N)
        return {"measure": "sanity", "value": float(agreement.statistic)}


@dataclass(frozen=True)
class OnShuffled:
    """A program that runs the model with shuffled weights."""

    program: Program
    seed: int

    def lengths(self, model: Model, rows: Any) -> Any:
        """As the program says."""
        return self.program.lengths(model, rows)

    def launch(self, model: Model, pieces: list[Any], spent: Spent) -> Any:
        """On the other model."""
        return self.program.launch(shuffled(model, self.seed), pieces, spent)

    def answer(self, landed: Any, pieces: list[Any]) -> list[Any]:
        """As the program says."""
        return self.program.answer(landed, pieces)

    def join(self, answers: list[Any], order: np.ndarray) -> Any:
        """As the program says."""
        return self.program.join(answers, order)


_SHUFFLED: WeakKeyDictionary[nn.Module, dict[int, Model]] = WeakKeyDictionary()


def shuffled(model: Model, seed: int) -> Model:
    """The model with the numbers of each of its parameters in another order; kept as long as the
    model itself, beside which it takes the same memory again."""
    known = _SHUFFLED.setdefault(model.module, {})
    if seed not in known:
        module, generator = copy.deepcopy(model.module), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                order = torch.randperm(parameter.numel(), generator=generator)
                flat = parameter.flatten()[order.to(parameter.device)]
                parameter.copy_(flat.view_as(parameter))
        known.clear()
        known[seed] = replace(model, module=module)
    return known[seed]
