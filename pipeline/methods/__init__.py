"""Attribution methods: each explains one image, as a coroutine over its set game.

`explain` yields what it asks (`pipeline.game.Ask`: coalitions, or rows for a program such as a
batch of heatmaps) and returns an `Attribution` for each objective. It knows nothing of batches,
devices or Ray; `play` drives a method of coalitions on any callable value function.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from pipeline.game import Ask, Game, Objective, Outputs, drive, toy


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """What a method found for one objective.

    `order`: players, most important first (a prefix of them where a search stopped early).
    `scores_N`: importance per player. `path`: outputs along the own order under the game's masking,
    after each pick, where the search has seen them. `singles_N`: v with each single player visible
    (insertion) or hidden (deletion). `pairs`: an interaction for each pair i < j, row by row.
    `heat_hw`: importance per cell of the image, see `pipeline.maps.coarse`, where the method looks
    at pixels. `details`: what this method alone knows, JSON-like. `evaluations`: forwards spent.
    `method`: who found it, known to whoever judges it.
    """

    order: list[int]
    evaluations: int
    scores_N: Tensor | None = None
    path: Outputs | None = None
    singles_N: Tensor | None = None
    pairs: Tensor | None = None
    heat_hw: Tensor | None = None
    details: dict[str, Any] | None = None
    method: "Method | None" = None


Explanation = dict[Objective, Attribution]
Coroutine = Generator[Ask, Any, Explanation]


class Method(Protocol):
    """A frozen dataclass, whose constructor arguments are its settings.

    `version`: raised by whoever changes what it computes; only its rows are then computed anew.
    `searches`: whether it sees its own order's curve on the way (`Attribution.path`).
    """

    version: ClassVar[int]

    @property
    def searches(self) -> bool:
        """See above."""
        ...

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Those that it serves."""
        ...

    def most_forwards(self, n_players: int) -> int:
        """At the most, for all objectives together."""
        ...

    def explain(self, game: Game) -> Coroutine:
        """Play: yield questions, be sent answers, return an Attribution for each objective."""
        ...


def rank(scores_N: Tensor) -> list[int]:
    """Players by falling score; the lowest index wins ties."""
    return torch.argsort(scores_N, descending=True, stable=True).tolist()


def same_for_all(attribution: Attribution, objectives: Sequence[Objective]) -> Explanation:
    """One order that serves every objective."""
    return dict.fromkeys(objectives, attribution)


def play(
    method: Method, value: Callable[[Tensor], Any], n_players: int, *, key: str = ""
) -> Mapping[Objective, Attribution]:
    """Drive a method without a model: `value` maps coalitions (C, N) to values (C,), the log-odds
    of the target, or to `Outputs`."""
    game, answer = toy(value, n_players, key=key)
    return drive(method.explain(game), answer)
