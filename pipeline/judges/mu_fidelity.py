"""mu-Fidelity (Bhatt, Weller & Moura, IJCAI 2020): does what hidden cells are said to be worth
follow what hiding them costs?

Correlation, over random sets S of `subset` of all cells, of the importance summed over S and of
f(x) - f(x without S), f the target's probability.
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

from pipeline import UsageError
from pipeline.game import Ask, Coalitions, Elsewhere, Game, Objective
from pipeline.judges import Verdict, heat, values
from pipeline.methods import Attribution
from pipeline.players import cells


@dataclass(frozen=True, kw_only=True)
class MuFidelity:
    """`samples` sets, of `grid` x `grid` cells or, where it is None, of the players; the run's
    masking hides them. `correlation`: `spearman` (Xplique's) or `pearson` (the paper's)."""

    samples: int = 32
    grid: int | None = 9
    subset: float = 0.2
    correlation: Literal["spearman", "pearson"] = "spearman"
    seed: int = 0

    version: ClassVar[int] = 1

    def __post_init__(self):
        if self.samples < 3 or not 0 < self.subset < 1 or (self.grid or 1) < 1:
            raise UsageError(
                f"judge.samples={self.samples}, judge.subset={self.subset}, judge.grid={self.grid}"
                ": give 3 samples at least, a subset between 0 and 1 and a positive grid"
            )
        if self.correlation not in ("spearman", "pearson"):
            raise UsageError(f"judge.correlation={self.correlation!r}: use spearman or pearson")

    def forwards(self, n_players: int) -> int:
        """One a set."""
        return self.samples

    def judge(self, found: Attribution, objective: Objective, game: Game) -> Verdict:
        """The correlation, the same for both objectives of one order."""
        if self.grid is None:
            return (yield from self._correlated(values(found, game.n_players), game))
        heat_HW = heat(found, game)
        cells_HW = cells(self.grid, *heat_HW.shape)
        worth_N = cells_HW.flatten().bincount(heat_HW.flatten().double())
        return (yield Elsewhere(partial(self._correlated, worth_N), cut=lambda view: cells_HW))

    def _correlated(self, worth_N: Tensor, game: Game) -> Generator[Ask, Any, dict[str, Any]]:
        rng, n = game.rng(self.seed), game.n_players
        hidden = max(1, round(self.subset * n))
        places_CN = rng.permuted(np.tile(np.arange(n), (self.samples, 1)), axis=1)
        hidden_CN = torch.from_numpy(places_CN < hidden)
        outputs = yield Coalitions(~hidden_CN)
        drop_C = (game.ends.probability_C[1] - outputs.probability_C).numpy()
        worth_C = (hidden_CN.double() @ worth_N).numpy()
        if np.ptp(drop_C) == 0 or np.ptp(worth_C) == 0:
            raise ValueError("mu-Fidelity: every set is worth the same, or costs the same")
        measured = spearmanr if self.correlation == "spearman" else pearsonr
        found: Any = measured(worth_C, drop_C)
        return {"measure": "mu_fidelity", "value": float(found.statistic)}
