"""One image through everything: decode, play every method's game, judge the orders, make the rows.

Pure: no Ray, no Hydra, no files. `Evaluation.explain` is the coroutine that an engine runs.
"""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from pipeline import curves
from pipeline.arena import Arena
from pipeline.data import Sample
from pipeline.engine import Query, Task
from pipeline.masking import Masking
from pipeline.methods import (
    Attribution,
    Game,
    HeatmapMethod,
    Objective,
    SetGameMethod,
)
from pipeline.players import Players, fractions
from pipeline.results import CURVES, Kind
from pipeline.work import Row, Wanted, Work


@dataclass(frozen=True, kw_only=True)
class Evaluation(Work):
    """Methods and how they are judged; parts are objectives.

    `names`: the conf names of model, players, masking and curve_masking, which the rows carry.
    """

    kind: ClassVar[Kind] = CURVES
    players: Players
    masking: Masking
    curve_masking: Masking
    methods: Mapping[str, SetGameMethod | HeatmapMethod]
    names: Mapping[str, str]

    @cached_property
    def wanted(self) -> list[tuple[str, Objective]]:
        """Every (method, objective): the rows of one image."""
        return [(name, o) for name, method in self.methods.items() for o in method.objectives]

    @cached_property
    def n_players(self) -> int:
        """Players that an image of the model's size is cut into."""
        image_CHW = torch.zeros(self.model.preprocessing["input_size"])
        return len(fractions(self.players(image_CHW)))

    def forwards(self, wanted: Wanted) -> int:
        """Those of searches, curves and end points."""
        n_players = self.n_players
        same = self.masking == self.curve_masking
        total = 1 + 2 + (0 if same else 2)
        for name in dict.fromkeys(name for name, _ in wanted):
            method = self.methods[name]
            objectives: list[Objective] = [o for n, o in wanted if n == name]
            total += method.evaluations(n_players, objectives)
            seen = same and method.searches
            total += 0 if seen else len(objectives) * (n_players - 1)
        return total

    def check(self) -> None:
        """Cut and mask a blank image; raises UsageError where settings do not fit."""
        image_CHW = torch.zeros(self.model.preprocessing["input_size"])
        for masking in (self.masking, self.curve_masking):
            masking.prepare(self.model, image_CHW, self.players(image_CHW))

    def first_query(self) -> tuple[int, int]:
        """A search's first step shows one player; half the players remain on average."""
        image_CHW = torch.zeros(self.model.preprocessing["input_size"])
        regions_HW = self.players(image_CHW)
        one_CN = torch.zeros(1, self.n_players, dtype=torch.bool)
        one_CN[0, 0] = True
        with torch.no_grad():
            prepared = self.masking.prepare(self.model, image_CHW, regions_HW)
        return self.n_players // 2, int(self.masking.lengths(self.model, prepared, one_CN)[0])

    def explain(self, sample: Sample, image_CHW: Tensor, wanted: Wanted) -> Task:
        """Predict, play every method's game, judge each order."""
        label = sample.label
        found: dict[str, int] = {}
        try:
            arena = Arena(self.model, image_CHW, self.players(image_CHW), (), sample.key)
            arena.prepare(self.masking)
            yield from self._identify(sample, arena, found)
            game = yield from arena.open(self.masking)
            judged = game
            if self.curve_masking != self.masking:
                judged = yield from arena.open(self.curve_masking)
        except Exception as error:
            return self.failures(sample.shard, sample.key, wanted, error, label=label, **found)
        rows: list[Row] = []
        for name in dict.fromkeys(name for name, _ in wanted):
            objectives: list[Objective] = [o for n, o in wanted if n == name]
            try:
                attributions, seconds = yield from arena.attribute(
                    self.methods[name], self.masking, game, objectives
                )
                for objective in objectives:
                    row = yield from self._judge(
                        arena, game, judged, objective, attributions[objective]
                    )
                    rows.append(
                        self.row(sample.shard, sample.key, name, objective)
                        | found
                        | row
                        | {"label": label, "seconds": seconds, "status": "ok"}
                    )
            except Exception as error:
                done = {(r["method"], r["objective"]) for r in rows}
                missing: Wanted = [(name, o) for o in objectives if (name, o) not in done]
                rows += self.failures(
                    sample.shard, sample.key, missing, error, label=label, **found
                )
        return rows

    def _identify(self, sample: Sample, arena: Arena, found: dict[str, int]) -> Generator:
        """The prediction on the whole image and the class to explain, for the arena to read out."""
        everyone_CN = torch.ones(1, len(arena.share_N), dtype=torch.bool)
        outputs = yield arena.query(self.masking, everyone_CN)
        found["prediction"] = int(outputs.prediction_C[0])
        target = self.class_explained(sample, found["prediction"], outputs.n_classes)
        found["target"] = target
        arena.classes = tuple(dict.fromkeys((target, found["prediction"])))

    def _judge(
        self,
        arena: Arena,
        game: Game,
        judged: Game,
        objective: Objective,
        attribution: Attribution,
    ) -> Generator[Query, Any, Row]:
        """Columns that hold one attribution and its curve."""
        own = judged is game
        path = attribution.path
        outputs = yield from arena.play(
            curves.curve(
                attribution.order,
                game.n_players,
                objective,
                judged.ends,
                path if own else None,
            ),
            self.curve_masking,
        )
        along = path if path is not None else outputs[1:] if own else None
        interaction = None
        if attribution.singles_N is not None and along is not None:
            interaction = curves.interactions(
                attribution.order,
                objective,
                along.value_C[: len(attribution.order)],
                attribution.singles_N,
                game.ends,
            )
        fraction_G = curves.fractions(attribution.order, arena.share_N)
        probability_G = outputs.value_C.double().sigmoid()  # log-odds = log p/(1-p)
        scores_N = attribution.scores_N
        return {
            "n_players": game.n_players,
            "order": attribution.order,
            "scores": None if scores_N is None else scores_N.float().tolist(),
            "interaction": None if interaction is None else interaction.tolist(),
            "pairs": None if attribution.pairs is None else attribution.pairs.tolist(),
            "details": None if attribution.details is None else json.dumps(attribution.details),
            "fraction": fraction_G,
            "probability": probability_G.tolist(),
            "log_odds": outputs.value_C.tolist(),
            "top1": outputs.top1_C.tolist(),
            "auc_probability": curves.auc(fraction_G, probability_G.numpy()),
            "auc_top1": curves.auc(fraction_G, outputs.top1_C.numpy()),
            "flip": curves.flip(outputs.top1_C, objective),
            "evaluations": attribution.evaluations,
        }

    def row(self, shard: str, key: str, name: str, part: Objective) -> Row:
        """Names and fingerprint."""
        return {
            "dataset": self.data.name,
            "shard": shard,
            "key": key,
            **self.names,
            "method": name,
            "objective": part,
            "fingerprint": self.fingerprints[name],
        }
