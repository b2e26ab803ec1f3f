"""The target's output: sign * v(S) of the picked players, or sign * v(N \\ S) of all others.

Insertion is v(S), deletion -v(N \\ S), what stands in the target's way +v(N \\ S) (MoXI, CVPR 2024,
Algs. 1, 2, for v = log-odds).
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.game import Ask, Coalitions, Game, Objective, Outputs
from pipeline.scores import Scored

TIES = {"log_odds": 1e-5, "probability": 1e-7}
"""Just above fp32 noise, so that batching cannot decide between players that make no difference (a
patch equal to its fill, say)."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """`read`: `log_odds` or `probability`; `visible`: `picked` or `others`; `sign`: 1 or -1."""

    version: ClassVar[int] = 1
    read: Literal["log_odds", "probability"] = "log_odds"
    visible: Literal["picked", "others"] = "picked"
    sign: int = 1

    def __post_init__(self):
        if self.read not in TIES:
            raise UsageError(f"score.read={self.read!r}: use one of {list(TIES)}")
        if self.visible not in ("picked", "others"):
            raise UsageError(f"score.visible={self.visible!r}: use 'picked' or 'others'")
        if self.sign not in (1, -1):
            raise UsageError(f"score.sign={self.sign}: use 1 or -1")

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is visible says it."""
        return ("insertion",) if self.visible == "picked" else ("deletion",)

    def forwards(self, n_players: int) -> tuple[int, int]:
        """One a set."""
        return 0, 1

    def open(self, game: Game) -> Generator[Ask, Any, "TargetValue"]:
        """Asks nothing."""
        yield from ()
        start = game.ends[:1] if self.visible == "picked" else game.ends[1:]
        return TargetValue(self, start)


class TargetValue:
    """See `Target`; `ends`: outputs where no player is picked."""

    def __init__(self, score: Target, empty: Outputs):
        self._score = score
        self.tie = TIES[score.read]
        self.start = float(self._value(empty)[0])
        # raised by hiding players, a target that is predicted anyway has nowhere to get
        raises = score.visible == "others" and score.sign > 0
        self._never = raises and bool(empty.top1_C[0])

    def __call__(self, picked_CN: Tensor) -> Generator[Ask, Any, Scored]:
        """Coroutine: one coalition a set."""
        picked = self._score.visible == "picked"
        outputs: Outputs = yield Coalitions(picked_CN if picked else ~picked_CN)
        reached_C = outputs.top1_C if self._score.sign > 0 else ~outputs.top1_C
        return Scored(
            self._value(outputs),
            torch.zeros_like(reached_C) if self._never else reached_C,
            outputs if picked else None,
            None if picked else outputs,
        )

    def chance(self, scored: Scored) -> float | None:
        """That of the target, or of the others where the score's sign is -1."""
        outputs = scored.left if scored.shown is None else scored.shown
        if self._score.read == "probability" or outputs is None or outputs.is_scalar:
            return None
        p = float(outputs.probability_C[0])
        return p if self._score.sign > 0 else 1 - p

    def _value(self, outputs: Outputs) -> Tensor:
        value_C = outputs.value_C
        if self._score.read == "probability":
            value_C = outputs.probability_C.to(value_C.dtype)
        return value_C if self._score.sign > 0 else -value_C
