"""Insertion and deletion curves along the players' order, one step a player."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pipeline import UsageError
from pipeline.game import Game, Objective, Outputs
from pipeline.identity import LATER
from pipeline.judges import Verdict
from pipeline.judges.areas import Area, auc, mean_of_steps
from pipeline.judges.curves import (
    columns,
    curve,
    elsewhere,
    fractions,
    judged_under,
    reversed_order,
)
from pipeline.masking import Masking
from pipeline.methods import Attribution

Read = Literal["probability", "log_odds", "logit", "top1"]


@dataclass(frozen=True, kw_only=True)
class Regions:
    """One step a player. `value` is the area under what is `read` of the target, or under a scalar
    output, which is no class's.

    `first`: the players that are inserted or deleted first, the `most` or the `least` important.
    `area`: `trapezoid` over the fraction of pixels, or the `mean` of all points but the first.
    `fixed_start`: the first point's top-1 is not the model's but what papers set it to: never with
    nothing inserted, always with nothing deleted. `masking`: to judge under, None for the run's.
    """

    first: Literal["most", "least"] = field(default="most", metadata=LATER)
    read: Read = field(default="probability", metadata=LATER)
    area: Area = field(default="trapezoid", metadata=LATER)
    fixed_start: bool = field(default=False, metadata=LATER)
    masking: Masking | None = field(default=None, metadata=LATER)

    version: ClassVar[int] = 1

    def __post_init__(self):
        if self.first not in ("most", "least"):
            raise UsageError(f"judge.first={self.first!r}: use most or least")
        if self.read not in ("probability", "log_odds", "logit", "top1"):
            raise UsageError(f"judge.read={self.read!r}: use probability, log_odds, logit or top1")
        if self.area not in ("trapezoid", "mean"):
            raise UsageError(f"judge.area={self.area!r}: use trapezoid or mean")

    def forwards(self, n_players: int) -> int:
        """All points between the ends."""
        return n_players - 1

    def judge(self, found: Attribution, objective: Objective, game: Game) -> Verdict:
        """Curve, areas, flip."""
        order, path = found.order, found.path
        if self.first == "least":
            order, path = reversed_order(order, game.n_players), None
        if self.masking is None:
            outputs = yield from curve(order, game.n_players, objective, game.ends, path)
        else:
            outputs = yield elsewhere(order, objective, self.masking)
        row = columns(outputs, fractions(order, game.share_N), objective, self.fixed_start)
        return row | self._measured(row, outputs) | judged_under(self.masking)

    def _measured(self, row: dict[str, Any], outputs: Outputs) -> dict[str, Any]:
        read = "output" if outputs.is_scalar else self.read
        measure = f"{'auc' if self.area == 'trapezoid' else 'mean'}_{read}"
        y_G = outputs.logits_CT[:, 0].numpy() if read in ("logit", "output") else row[read]
        mean = self.area == "mean"
        return {
            "measure": measure if self.first == "most" else f"{measure}_least_first",
            "value": mean_of_steps(y_G) if mean else auc(row["fraction"], y_G),
        }
