"""A random order: the control that every method must beat."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.game import OBJECTIVES, Game
from pipeline.methods import Attribution, Coroutine, same_for_all


@dataclass(frozen=True, kw_only=True)
class Random:
    """Uniform over orders; the same for the same `seed` and sample key."""

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES
    seed: int = 0

    def most_forwards(self, n_players: int) -> int:
        """None."""
        return 0

    def explain(self, game: Game) -> Coroutine:
        """No forwards."""
        order = game.rng(self.seed).permutation(game.n_players).tolist()
        yield from ()
        return same_for_all(Attribution(order=order, evaluations=0), self.objectives)
