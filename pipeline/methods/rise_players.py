"""RISE (Petsiuk et al., BMVC 2018) on the image's own players, under the run's masking.

score_i = mean of f(S) over random coalitions S that keep player i.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pipeline import UsageError
from pipeline.game import OBJECTIVES, Game, Read
from pipeline.methods import Coroutine
from pipeline.methods.sampling import check, result, values_of


@dataclass(frozen=True, kw_only=True)
class RisePlayers:
    """`forwards` coalitions at the most, each player kept with probability `keep`; `read`:
    log_odds, probability or logit of the target."""

    forwards: int = 4000
    keep: float = 0.5
    read: Read = "probability"
    seed: int = 0

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        check("rise_players", self.read, self.forwards)
        if not 0 < self.keep < 1:
            raise UsageError(f"rise_players.keep={self.keep}: it lies between 0 and 1")

    def most_forwards(self, n_players: int) -> int:
        """One a coalition."""
        return self.forwards

    def explain(self, game: Game) -> Coroutine:
        """Ask for random coalitions. The whole image, which is known, keeps every player."""
        n, rng = game.n_players, game.rng(self.seed)
        drawn_CN = torch.from_numpy(rng.random((self.forwards, n)) < self.keep)
        every_CN = torch.cat([torch.ones(1, n, dtype=torch.bool), drawn_CN])
        value_C, asked = yield from values_of(every_CN, game, self.read)
        kept_CN = every_CN.double()
        return result(value_C @ kept_CN / kept_CN.sum(0), asked)
