"""A random order: the control that every method must beat."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.methods import OBJECTIVES, Attribution, Coroutine, Game, Objective


@dataclass(frozen=True, kw_only=True)
class Random:
    """Uniform over orders; the same for the same `seed` and sample key."""

    searches: ClassVar[bool] = False
    seed: int = 0

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """One order serves both."""
        return OBJECTIVES

    def evaluations(self, n_players: int, objectives: Sequence[Objective]) -> int:
        """None."""
        return 0

    def explain(self, game: Game, objectives: Sequence[Objective]) -> Coroutine:
        """No forwards."""
        order = game.rng(self.seed).permutation(game.n_players).tolist()
        return dict.fromkeys(objectives, Attribution(order=order, evaluations=0))
        yield  # a coroutine that asks nothing
