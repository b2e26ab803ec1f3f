"""One image through everything: cut, play every method's game, judge the orders, make the rows.

Pure: no Ray, no Hydra, no files. `CurvesWork.explain` is the coroutine that an engine runs.
"""

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline import maps
from pipeline.data import Sample, SampleRef
from pipeline.engine import Engine, Task
from pipeline.game import Game, Objective
from pipeline.game.arena import Arena, Bill, Turn
from pipeline.judges import Judge
from pipeline.masking import Masking
from pipeline.masking.zero import Zero
from pipeline.methods import Attribution, Method
from pipeline.methods.interaction import interactions
from pipeline.players import Players, View, blank
from pipeline.players.png import packed, unpacked
from pipeline.rows import Kind
from pipeline.studies.curves.rehearsal import rehearse
from pipeline.studies.curves.rows import CURVES, ORDER_COLUMNS
from pipeline.work import Known, Row, Wanted, Work


class Ready(NamedTuple):
    """An image, cut unless its players need heat first, and what maskings have made of it."""

    sample: Sample
    view: View
    regions_HW: Tensor | None
    begun: dict[Masking, Any]


@dataclass(frozen=True, kw_only=True)
class CurvesWork(Work):
    """Methods and how they are judged; facets are objectives.

    `names`: what the rows call model, weights, players, masking, curve_masking and judge.
    """

    kind: ClassVar[Kind] = CURVES
    players: Players
    masking: Masking
    curve_masking: Masking
    judge: Judge
    methods: Mapping[str, Method]
    names: Mapping[str, str]

    @cached_property
    def wanted(self) -> list[tuple[str, Objective]]:
        """Every (method, objective): the rows of one image."""
        return [(name, o) for name, method in self.methods.items() for o in method.objectives]

    @cached_property
    def n_players(self) -> int:
        """Players that a blank image is cut into."""
        return int(self._blank_HW.max()) + 1

    def forwards(self, wanted: Wanted, known: Container[Any]) -> int:
        """Those of searches, judgements, end points and the players' prior, whose cut known rows
        keep."""
        own = self.masking == self.curve_masking
        new = [(name, o) for name, o in wanted if (name, o) not in known]
        searched = {name: self.methods[name] for name, _ in new}
        total = 2 + (1 if new and not own else 0)
        total += self._prior_forwards if len(new) == len(wanted) else 0
        total += sum(method.most_forwards(self.n_players) for method in searched.values())
        free = sum(own and self.methods[name].searches for name, _ in new)
        if getattr(self.judge, "explains_again", False):
            total += sum(self.methods[name].most_forwards(self.n_players) for name, _ in wanted)
        return total + (len(wanted) - free) * self.judge.forwards(self.n_players)

    def check(self) -> None:
        """Cut a blank image and rehearse; raises UsageError where settings do not fit."""
        maskings = {"masking": self.masking}
        if self.curve_masking != self.masking:
            maskings["curve_masking"] = self.curve_masking
        rehearse(
            self.model,
            self._blank_HW,
            maskings=maskings,
            methods=self.methods,
            judge=self.judge,
            target=self.target,
            prior=self._prior,
        )

    def first_request(self) -> tuple[int, int]:
        """A search's first step shows one player; half the players remain on average."""

        def probe() -> Turn[int]:
            view = blank(self.model.preprocessing)
            arena = Arena(self.model, view, self._blank_HW, "")
            one_CN = torch.zeros(1, self.n_players, dtype=torch.bool)
            one_CN[0, 0] = True
            return (yield from arena.length(self.masking, one_CN))

        (tokens,) = Engine(self.model).run([probe()], in_flight=1)
        return max(1, self.n_players // 2), tokens

    def sample(self, ref: SampleRef) -> Sample:
        """With the members that the players are cut by, and those that the judge looks into, of
        which no order knows."""
        cut_by, judged_by = (getattr(part, "members", ()) for part in (self.players, self.judge))
        return self.data.read(ref, cut_by, judged_by)

    def read(self, ref: SampleRef, wanted: Wanted, known: Known) -> Ready:
        """Decode, cut, and begin the maskings that will be played with."""
        sample, image_CHW = self.image(ref)
        view = View(image_CHW, self.model.preprocessing, sample)
        kept = next((row["regions"] for row in known.values() if row.get("regions")), None)
        if kept is None and self._prior is not None:
            return Ready(sample, view, None, {})
        regions_HW = self.players(view) if kept is None else unpacked(kept)
        begun = {
            masking: masking.begin(self.model, image_CHW, regions_HW)
            for masking in self._maskings(wanted, known)
        }
        return Ready(sample, view, regions_HW, begun)

    def explain(self, ready: Ready, wanted: Wanted, known: Known) -> Task:
        """Predict, play every method's game, judge each order."""
        sample = ready.sample
        said: Row = {"label": sample.label, "content": sample.content}
        games: dict[Masking, Game] = {}
        try:
            arena = yield from self.arena(ready, said)
            if self._prior is not None or getattr(self.players, "kept", False):
                said["regions"] = packed(arena.regions_HW)
            for masking in self._maskings(wanted, known):
                if not arena.classes:
                    yield from self._meet(arena, masking, sample, said)
                games[masking] = yield from arena.open(masking)
        except Exception as error:
            return self.failures(sample.shard, sample.key, wanted, error, **said)
        rows: list[Row] = []
        for name in dict.fromkeys(name for name, _ in wanted):
            objectives: list[Objective] = [o for n, o in wanted if n == name]
            mine = {o: known[name, o] for o in objectives if (name, o) in known}
            found, problem = {o: remembered(row) for o, row in mine.items()}, None
            if len(found) < len(objectives):
                try:
                    found = (yield from self._found(arena, games[self.masking], name)) | found
                except Exception as error:
                    problem = error
            for objective in objectives:
                place = (sample.shard, sample.key)
                try:
                    if objective not in found:
                        raise problem or ValueError(f"{name} found no order for {objective}")
                    row = yield from self._judged(arena, games, name, objective, *found[objective])
                except Exception as error:
                    rows += self.failures(*place, [(name, objective)], error)
                else:
                    rows.append(self.row(*place, name, objective) | row | {"status": "ok"})
        return [row | said for row in rows]

    def arena(self, ready: Ready, said: Row) -> Turn[Arena]:
        """Where an image is played with; players with a prior are cut by its heat first."""
        sample, view = ready.sample, ready.view
        if ready.regions_HW is not None:
            return Arena(self.model, view, ready.regions_HW, sample.key, ready.begun)
        one_HW = torch.zeros(self.model.input_hw, dtype=torch.long)
        whole = Arena(self.model, view, one_HW, sample.key)
        yield from self._meet(whole, Zero(), sample, said)
        prior = self._prior.heat(view.image_CHW, whole.classes[0])
        heat_HW, _ = yield from whole.play(prior, Zero())
        return whole.cut(self.players(view, heat_HW))

    def row(self, shard: str, key: str, name: str, facet: Objective) -> Row:
        """Names and addresses."""
        return {
            "dataset": self.data.name,
            "shard": shard,
            "key": key,
            **self.names,
            "method": name,
            "objective": facet,
            "fingerprint": self.fingerprints[name],
            "order_fingerprint": self.order_fingerprints[name],
        }

    @cached_property
    def _blank_HW(self) -> Tensor:
        view, (height, width) = blank(self.model.preprocessing), self.model.input_hw
        heat_HW = torch.arange(height * width).view(height, width).float()
        return self.players(view, None if self._prior is None else heat_HW)

    @property
    def _prior(self) -> Any:
        """The method whose heat the players are cut by, if any."""
        return getattr(self.players, "prior", None)

    @property
    def _prior_forwards(self) -> int:
        return 0 if self._prior is None else self._prior.most_forwards(self.n_players)

    def _maskings(self, wanted: Wanted, known: Known) -> list[Masking]:
        """Those that are played with: the methods' own only where an order is still to be found."""
        new = any(place not in known for place in wanted)
        maskings = [self.masking, self.curve_masking] if new else [self.curve_masking]
        return list(dict.fromkeys(maskings))

    def _meet(self, arena: Arena, masking: Masking, sample: Sample, said: Row) -> Turn[None]:
        """The prediction and the class to explain."""
        asked, problem = None, None
        try:
            asked = self.asked(sample)
        except ValueError as error:
            problem = error
        said["prediction"], n_classes = yield from arena.meet(masking, asked)
        if problem is not None:
            raise problem
        said["target"] = self.explained(asked, said["prediction"], n_classes)

    def _found(
        self, arena: Arena, game: Game, name: str
    ) -> Turn[dict[Objective, tuple[Attribution, Row]]]:
        """Play a method's game: orders, and the columns that hold them."""
        explanation, bill = yield from arena.play(self.methods[name].explain(game), self.masking)
        return {
            o: (found, _order_row(found, bill, self._prior_forwards))
            for o, found in explanation.items()
        }

    def _judged(
        self,
        arena: Arena,
        games: dict[Masking, Game],
        name: str,
        objective: Objective,
        found: Attribution,
        order_row: Row,
    ) -> Turn[Row]:
        """All columns of an order and its judgement."""
        own = self.curve_masking == self.masking
        game = games[self.curve_masking]
        along = replace(found, path=found.path if own else None, method=self.methods[name])
        judged, _ = yield from arena.play(
            self.judge.judge(along, objective, game), self.curve_masking
        )
        row = {"n_players": game.n_players} | order_row | judged
        path_C = None if found.path is None else found.path.value_C
        if path_C is None and own and "log_odds" in judged:
            path_C = torch.as_tensor(judged["log_odds"])[1:]
        if found.singles_N is not None and path_C is not None and found.order:
            path_C = path_C[: len(found.order)]
            ends = games[self.masking].ends
            row["interaction"] = interactions(
                found.order, objective, path_C, found.singles_N, ends
            ).numpy()
        return row


def _order_row(found: Attribution, bill: Bill, cutting: int) -> Row:
    """Columns that hold an order, whoever judges it; `cutting`: forwards that its players took."""
    return {
        "order": np.asarray(found.order, dtype=np.uint16),
        "scores": None if found.scores_N is None else found.scores_N.float().numpy(),
        "interaction": None,
        "pairs": None if found.pairs is None else found.pairs.float().numpy(),
        "details": None if found.details is None else json.dumps(found.details),
        "heat": None if found.heat_hw is None else maps.packed(found.heat_hw),
        "evaluations": found.evaluations + cutting,
        "tokens": bill.tokens,
        "seconds": bill.seconds,
    }


def remembered(row: Row) -> tuple[Attribution, Row]:
    """An order of an earlier row, and the columns that hold it."""
    found = Attribution(
        order=list(row["order"]),
        evaluations=row["evaluations"],
        scores_N=None if row["scores"] is None else torch.tensor(row["scores"]),
        heat_hw=None if row["heat"] is None else maps.unpacked(row["heat"]),
    )
    return found, {name: row[name] for name in ORDER_COLUMNS}
