"""Orders of one model judged on another: nothing is searched, the attribution is not computed anew.

The class explained is the one that an order was found for, whatever this model predicts. Players
are cut from the image as this model sees it.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline import UsageError
from pipeline.engine import Task
from pipeline.game import Game, Objective
from pipeline.game.arena import Arena, Turn
from pipeline.methods import Attribution, Coroutine, Explanation, Method, same_for_all
from pipeline.models import Model
from pipeline.players import Players
from pipeline.studies.curves.rehearsal import rehearse
from pipeline.studies.curves.work import CurvesWork, Ready, remembered
from pipeline.work import Known, Row, Wanted

GEOMETRY = ("interpolation", "input_size", "crop_pct", "crop_mode")
"""What of a model's preprocessing decides which part of an image it sees, and how finely."""


@dataclass(frozen=True, kw_only=True)
class Lent:
    """Stands for a method whose orders are there: any order, no forwards."""

    version: ClassVar[int] = 1
    searches = False
    objectives: tuple[Objective, ...]

    def most_forwards(self, n_players: int) -> int:
        """None."""
        return 0

    def explain(self, game: Game) -> Coroutine:
        """Where what will be judged is tried, or timed."""
        yield from ()
        explanation: Explanation = same_for_all(
            Attribution(order=list(range(game.n_players)), evaluations=0), self.objectives
        )
        return explanation


@dataclass(frozen=True, kw_only=True)
class Transfer(CurvesWork):
    """Orders that `lender` holds, judged on `model`: `masking` is `curve_masking`, since nothing
    else is played with, and `methods` are `Lent`."""

    def forwards(self, wanted: Wanted, known: Container[Any]) -> int:
        """Those of end points and judgements; none for an image without an order."""
        judged = sum(place in known for place in wanted)
        return 2 + judged * self.judge.forwards(self.n_players) if judged else 0

    def check(self) -> None:
        """Without the players' prior, which cut them on the other model."""
        if getattr(self.judge, "explains_again", False):
            raise UsageError(
                f"orders={self.lender}: the judge explains images again, which only the model of "
                "these orders can do; choose another judge"
            )
        rehearse(
            self.model,
            self._blank_HW,
            maskings={"curve_masking": self.curve_masking},
            methods=self.methods,
            judge=self.judge,
            target=self.target,
        )

    def arena(self, ready: Ready, said: Row) -> Turn[Arena]:
        """Players that heat has cut are those of the order; a plan, which has none, takes any."""
        yield from ()
        regions_HW = self._blank_HW if ready.regions_HW is None else ready.regions_HW
        return Arena(self.model, ready.view, regions_HW, ready.sample.key, ready.begun)

    def explain(self, ready: Ready, wanted: Wanted, known: Known) -> Task:
        """Judge each order for its class."""
        sample, rows = ready.sample, list[Row]()
        place = (sample.shard, sample.key)
        said: Row = {"label": sample.label, "content": sample.content}
        usable: dict[int, list[tuple[str, Objective]]] = {}
        arena = yield from self.arena(ready, said)
        for name, objective in wanted:
            row = known.get((name, objective))
            if problem := self._problem(name, objective, row, ready, len(arena.share_N)):
                rows += self.failures(*place, [(name, objective)], problem, **said)
            elif row is not None:
                usable.setdefault(row["target"], []).append((name, objective))
        for target, mine in usable.items():
            rows += yield from self._of_class(arena, target, mine, known, place, said)
        return rows

    def _of_class(
        self,
        arena: Arena,
        target: int,
        mine: Sequence[tuple[str, Objective]],
        known: Known,
        place: tuple[str, str],
        said: Row,
    ) -> Turn[list[Row]]:
        """Rows of the orders that explain one class."""
        rows: list[Row] = []
        said = dict(said)
        try:
            said["prediction"], n_classes = yield from arena.meet(self.curve_masking, target)
            said["target"] = self.explained(target, said["prediction"], n_classes)
            games = {self.curve_masking: (yield from arena.open(self.curve_masking))}
        except Exception as error:
            return self.failures(*place, mine, error, **said)
        for name, objective in mine:
            row = known[name, objective]
            try:
                known_row = remembered(row)
                judged = yield from self._judged(arena, games, name, objective, *known_row)
            except Exception as error:
                rows += self.failures(*place, [(name, objective)], error, **said)
            else:
                kept = {"regions": row["regions"], "status": "ok"}
                rows.append(self.row(*place, name, objective) | judged | said | kept)
        return rows

    def _problem(
        self, name: str, objective: Objective, row: Row | None, ready: Ready, n_players: int
    ) -> str:
        """Why an order cannot be judged here, if so."""
        if row is None:
            return f"{self.lender} holds no order of {name} for {objective} of this image"
        if row["content"] and ready.sample.content not in ("", row["content"]):
            return f"{self.lender} holds an order of {name} for another image or label of this key"
        if ready.regions_HW is None:
            return f"{self.lender} does not keep the players that heat has cut for {name}"
        if row["n_players"] != n_players:
            return (
                f"{name} ordered {row['n_players']} players in {self.lender}, here the image is "
                f"cut into {n_players}"
            )
        return ""


def check_players(players: Players, model: Model, made_for: Mapping[str, Any], lender: str) -> None:
    """Raise UsageError for players that are not the same ones on a model which sees images
    otherwise than the order's; `made_for`: GEOMETRY of that."""
    if getattr(players, "alike", False):
        return
    kept = getattr(players, "kept", False) or getattr(players, "prior", None) is not None
    for name in GEOMETRY[kept:]:  # what is cut anew sees the finest differences
        there, here = _said(made_for[name]), _said(model.preprocessing[name])
        if there != here:
            raise UsageError(
                f"orders={lender}: {name} is {there} there, {here} here, and these players are cut "
                f"from what the model sees: give model.preprocessing.{name}={there}"
            )


def _said(value: Any) -> str:
    """As one gives it; JSON makes lists of tuples."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


def lent(methods: Mapping[str, Method]) -> dict[str, Lent]:
    """What stands for each."""
    return {name: Lent(objectives=tuple(method.objectives)) for name, method in methods.items()}
