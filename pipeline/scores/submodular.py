"""A sum of named terms: F(S) = sum_t weight_t * term_t(S) (SMDL, ICLR 2024, eq. 9).

Terms that look at what is visible see S, or all others, or both; one search then serves insertion
and deletion alike. F is called submodular after the paper: with these terms it is neither monotone
nor submodular in general, so no bound holds for a greedy search.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.game import Ask, Coalitions, Game, Objective, Outputs
from pipeline.scores import Scored
from pipeline.scores.terms import Need, Seen, Term
from pipeline.scores.terms.collaboration import Collaboration
from pipeline.scores.terms.confidence import Confidence
from pipeline.scores.terms.consistency import Consistency
from pipeline.scores.terms.effectiveness import Effectiveness, distances

TIE = 2e-6
"""Of each term: just above fp32 noise in a probability."""


def iclr() -> dict[str, Term]:
    """The four terms of the paper, each of weight 1, as its code computes them."""
    return {
        "confidence": Confidence(),
        "effectiveness": Effectiveness(),
        "consistency": Consistency(),
        "collaboration": Collaboration(),
    }


@dataclass(frozen=True, kw_only=True)
class Submodular:
    """`terms` by names of one's own; those of weight 0 cost nothing."""

    version: ClassVar[int] = 1
    terms: Mapping[str, Term] = field(default_factory=iclr)

    def __post_init__(self):
        if not self.used:
            raise UsageError("score.terms: every weight is 0; give one term a weight")

    @property
    def used(self) -> list[Term]:
        """Terms that count."""
        return [term for term in self.terms.values() if term.weight]

    @property
    def needs(self) -> set[Need]:
        """What they look at together."""
        return {need for term in self.used for need in term.needs}

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """One order, whose curves are those of the sides that are looked at."""
        if "left" not in self.needs:
            return ("insertion",)
        return ("insertion", "deletion") if "shown" in self.needs else ("deletion",)

    def forwards(self, n_players: int) -> tuple[int, int]:
        """Single players and the whole image once, one forward a side of each set."""
        once = n_players * ("singles" in self.needs) + ("whole" in self.needs)
        return once, max(1, len({"shown", "left"} & self.needs))

    def open(self, game: Game) -> Generator[Ask, Any, "SubmodularValue"]:
        """Ask for features of single players and of the whole image."""
        needs, n_players = self.needs, game.n_players
        entropy, distances_NN, whole_1D = "entropy" in needs, None, None
        if "singles" in needs:
            alone_NN = torch.eye(n_players, dtype=torch.bool)
            alone: Outputs = yield Coalitions(alone_NN, entropy, features=True)
            assert alone.features_CD is not None
            distances_NN = distances(alone.features_CD)
        if "whole" in needs:
            everyone_CN = torch.ones(1, n_players, dtype=torch.bool)
            whole: Outputs = yield Coalitions(everyone_CN, entropy, features=True)
            whole_1D = whole.features_CD
        known = Seen(
            picked_CN=torch.zeros(1, n_players, dtype=torch.bool),
            shown=game.ends[:1],
            left=game.ends[1:],
            distances_NN=distances_NN,
            whole_1D=whole_1D,
        )
        return SubmodularValue(self, known)


class SubmodularValue:
    """See `Submodular`; `empty`: what is known where no player is picked."""

    def __init__(self, score: Submodular, empty: Seen):
        self._terms, self._needs, self._empty = score.used, score.needs, empty
        self.tie = TIE * sum(abs(term.weight) for term in self._terms)
        told = "features" not in self._needs  # the end points have none
        self.start = float(self._value(empty)[0]) if told else None

    def __call__(self, picked_CN: Tensor) -> Generator[Ask, Any, Scored]:
        """Coroutine: one coalition a set and side."""
        needs, sets = self._needs, len(picked_CN)
        shows, leaves = "shown" in needs or "left" not in needs, "left" in needs
        sides = [picked_CN] * shows + [~picked_CN] * leaves
        asked = Coalitions(torch.cat(sides), "entropy" in needs, "features" in needs)
        outputs: Outputs = yield asked
        shown = outputs[:sets] if shows else None
        left = outputs[-sets:] if leaves else None
        seen = replace(self._empty, picked_CN=picked_CN, shown=shown, left=left)
        reached_C = shown.top1_C if shown is not None else ~outputs.top1_C
        return Scored(self._value(seen), reached_C, _plain(shown), _plain(left))

    def _value(self, seen: Seen) -> Tensor:
        values = [term.weight * term(seen) for term in self._terms]
        return torch.stack(values).sum(0)


def _plain(outputs: Outputs | None) -> Outputs | None:
    """Without features, which a path would keep."""
    return None if outputs is None else replace(outputs, features_CD=None)
