"""Attribution methods: each explains one image, as a coroutine over a set game or as a heatmap.

A *set-game method* is a generator: it yields coalitions, a bool tensor (C, N) with True = visible,
and is sent back their `Outputs`; it returns one `Attribution` per objective. It knows nothing of
images, batches, devices or Ray, so `play` can drive it on any callable value function.

A *heatmap method* maps a batch of images to importance per pixel; region means make it an order.
"""

import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.models import Model

Objective = Literal["insertion", "deletion"]
OBJECTIVES: tuple[Objective, ...] = ("insertion", "deletion")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The model's answer to C coalitions, read out for T classes (the target first), on the CPU.

    `logits_CT`, `log_odds_CT` = z_t - logsumexp of all other logits, `prediction_C` = argmax over
    all `n_classes`. `seconds`: the device time that the answer took.
    """

    classes: tuple[int, ...]
    logits_CT: Tensor
    log_odds_CT: Tensor
    prediction_C: Tensor
    seconds: float = 0.0
    n_classes: int = 0

    @cached_property
    def value_C(self) -> Tensor:
        """The value function v: log-odds of the target."""
        return self.log_odds_CT[:, 0]

    @property
    def top1_C(self) -> Tensor:
        """Where the target is the model's prediction."""
        return self.prediction_C == self.classes[0]

    def __getitem__(self, rows) -> "Outputs":
        return Outputs(
            classes=self.classes,
            logits_CT=self.logits_CT[rows],
            log_odds_CT=self.log_odds_CT[rows],
            prediction_C=self.prediction_C[rows],
        )

    @classmethod
    def cat(cls, parts: Sequence["Outputs"]) -> "Outputs":
        """Rows of all parts, in order; all read out for the same classes."""
        return cls(
            classes=parts[0].classes,
            logits_CT=torch.cat([p.logits_CT for p in parts]),
            log_odds_CT=torch.cat([p.log_odds_CT for p in parts]),
            prediction_C=torch.cat([p.prediction_C for p in parts]),
            seconds=sum(p.seconds for p in parts),
        )


def sample_rng(seed: int, key: str, *more: int) -> np.random.Generator:
    """Randomness that belongs to a sample (and to `more`, a trial), on whichever worker."""
    return np.random.default_rng([seed, zlib.crc32(key.encode()), *more])


@dataclass(frozen=True, kw_only=True)
class Game:
    """One image's game: `ends` answers the empty and the full coalition, at no further cost."""

    n_players: int
    key: str
    ends: Outputs

    def rng(self, seed: int) -> np.random.Generator:
        """Randomness that belongs to the sample, whichever worker plays the game."""
        return sample_rng(seed, self.key)


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """What a method found for one objective.

    `order`: players, most important first (a prefix of them where a search stopped early).
    `scores_N`: importance per player. `path`: outputs along the own order under the game's masking,
    after each pick, where the search has seen them. `singles_N`: v with each single player visible
    (insertion) or hidden (deletion). `pairs`: an interaction for each pair i < j, row by row.
    `details`: what this method alone knows, JSON-like. `evaluations`: forwards spent.
    """

    order: list[int]
    evaluations: int
    scores_N: Tensor | None = None
    path: Outputs | None = None
    singles_N: Tensor | None = None
    pairs: Tensor | None = None
    details: dict[str, Any] | None = None


Coroutine = Generator[Tensor, Outputs, dict[Objective, Attribution]]


class SetGameMethod(Protocol):
    """Plays a set game for one image.

    `objectives` are those that it can serve, `evaluations` the forwards that they will take, and
    `searches` says whether it sees its own order's curve on the way (`Attribution.path`).
    """

    searches: ClassVar[bool]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Those that it can serve."""
        ...

    def evaluations(self, n_players: int, objectives: Sequence[Objective]) -> int:
        """Forwards that these objectives will take together."""
        ...

    def explain(self, game: Game, objectives: Sequence[Objective]) -> Coroutine:
        """Play: yield coalitions, be sent Outputs, return an Attribution per objective."""
        ...


class HeatmapMethod(Protocol):
    """Importance per pixel (B, H, W) for images (B, C, H, W) and their target classes."""

    searches: ClassVar[bool]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Those that it can serve."""
        ...

    def evaluations(self, n_players: int, objectives: Sequence[Objective]) -> int:
        """Forwards that these objectives will take together."""
        ...

    def heatmaps(self, model: Model, images_BCHW: Tensor, targets: list[int]) -> Tensor:
        """Finite, not constant, at the resolution of the input."""
        ...


def rank(scores_N: Tensor) -> list[int]:
    """Players by falling score; the lowest index wins ties."""
    return torch.argsort(scores_N, descending=True, stable=True).tolist()


def from_heatmap(heatmap_HW: Tensor, regions_HW: Tensor, evaluations: int) -> Attribution:
    """Order of the players by their mean heat. Raises ValueError for a map that ranks nothing."""
    if not heatmap_HW.isfinite().all():
        raise ValueError("the heatmap holds NaN or infinite values")
    if float(heatmap_HW.max()) == float(heatmap_HW.min()):
        raise ValueError(f"the heatmap is constant ({float(heatmap_HW.max()):g}): it ranks nothing")
    regions_P = regions_HW.flatten().cpu()
    heat_P = heatmap_HW.flatten().double().cpu()
    scores_N = regions_P.bincount(heat_P) / regions_P.bincount()
    return Attribution(order=rank(scores_N), scores_N=scores_N, evaluations=evaluations)


def play(
    method: SetGameMethod,
    value: Callable[[Tensor], Tensor],
    n_players: int,
    *,
    objectives: Sequence[Objective] | None = None,
    key: str = "",
) -> dict[Objective, Attribution]:
    """Drive a method without a model: `value` maps coalitions (C, N) to values (C,)."""

    def answer(coalitions_CN: Tensor) -> Outputs:
        value_C1 = torch.as_tensor(value(coalitions_CN)).double()[:, None]
        prediction_C = (value_C1[:, 0] <= 0).long()  # class 0, the target, wins where v > 0
        return Outputs(
            classes=(0,), logits_CT=value_C1, log_odds_CT=value_C1, prediction_C=prediction_C
        )

    ends = answer(torch.stack([torch.zeros(n_players).bool(), torch.ones(n_players).bool()]))
    game = Game(n_players=n_players, key=key, ends=ends)
    return drive(method.explain(game, objectives or method.objectives), answer)


def drive(coroutine: Generator[Tensor, Any, Any], answer: Callable[[Tensor], Outputs]) -> Any:
    """Answer whatever a coroutine of coalitions asks for; returns what it returns."""
    reply = None
    while True:
        try:
            coalitions_CN = coroutine.send(reply)
        except StopIteration as stop:
            return stop.value
        reply = answer(coalitions_CN)
