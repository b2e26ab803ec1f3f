"""One image through everything: decode, play every method's game, judge the orders, make the rows.

Pure: no Ray, no Hydra, no files. `Evaluation.explain` is the coroutine that an engine runs.
"""

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline import UsageError, curves
from pipeline.arena import Arena
from pipeline.data import Sample, SampleRef
from pipeline.data.images import decode
from pipeline.data.shards import Shards
from pipeline.engine import Query, Task
from pipeline.masking import Masking
from pipeline.methods import (
    Attribution,
    Game,
    HeatmapMethod,
    Objective,
    SetGameMethod,
)
from pipeline.models import Model
from pipeline.players import Players, fractions

SCHEMA_VERSION = 1
"""Part of every fingerprint: raise it when a change alters what any row holds."""

Row = dict[str, Any]
Wanted = Sequence[tuple[str, Objective]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that decides a row, and the names that the rows carry for it.

    `names` holds the conf names of model, players, masking and curve_masking; `fingerprints` gives
    the content address of each method's rows; `target` is the class explained.
    """

    data: Shards
    model: Model
    players: Players
    masking: Masking
    curve_masking: Masking
    methods: Mapping[str, SetGameMethod | HeatmapMethod]
    names: Mapping[str, str]
    fingerprints: Mapping[str, str]
    target: Literal["prediction", "label"] | int = "prediction"

    @cached_property
    def wanted(self) -> list[tuple[str, Objective]]:
        """Every (method, objective): the rows of one image."""
        return [(name, o) for name, method in self.methods.items() for o in method.objectives]

    def forwards(self, wanted: Wanted, n_players: int) -> int:
        """Forwards that one image will need for `wanted`, curves and end points included."""
        same = self.masking == self.curve_masking
        total = 1 + 2 + (0 if same else 2)
        for name in dict.fromkeys(name for name, _ in wanted):
            method = self.methods[name]
            objectives: list[Objective] = [o for n, o in wanted if n == name]
            total += method.evaluations(n_players, objectives)
            seen = same and method.searches
            total += 0 if seen else len(objectives) * (n_players - 1)
        return total

    def check(self) -> int:
        """Cut a blank image and count its players; raises UsageError where settings do not fit."""
        image_CHW = torch.zeros(self.model.preprocessing["input_size"])
        n_players = len(fractions(self.players(image_CHW)))
        for masking in (self.masking, self.curve_masking):
            masking.prepare(self.model, image_CHW, self.players(image_CHW))
        return n_players

    def shortest_row(self) -> int:
        """Tokens of a row with one visible player: what a search asks for at its first step."""
        image_CHW = torch.zeros(self.model.preprocessing["input_size"])
        regions_HW = self.players(image_CHW)
        one_CN = torch.zeros(1, len(fractions(regions_HW)), dtype=torch.bool)
        one_CN[0, 0] = True
        with torch.no_grad():
            prepared = self.masking.prepare(self.model, image_CHW, regions_HW)
        return int(self.masking.lengths(self.model, prepared, one_CN)[0])

    def read(self, ref: SampleRef) -> tuple[Sample, Tensor]:
        """Bytes to a normalised image (C, H, W). Raises ValueError for a bad sample."""
        sample = self.data.read(ref)
        return sample, self.model.transform(decode(sample.encoded, exif=self.data.exif))

    def explain(self, sample: Sample, image_CHW: Tensor, wanted: Wanted) -> Task:
        """Coroutine for the engine: the rows of one image, failures included; never raises."""
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
                        self._row(sample.shard, sample.key, name, objective)
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

    def failures(
        self,
        shard: str,
        key: str,
        wanted: Wanted,
        error: Exception | str,
        *,
        label: int | None = None,
        prediction: int | None = None,
        target: int | None = None,
    ) -> list[Row]:
        """One row with status 'failed' and the reason for each (method, objective)."""
        plain = isinstance(error, str) or type(error) in (ValueError, UsageError)
        reason = str(error) if plain else f"{type(error).__name__}: {error}"
        said = {"label": label, "prediction": prediction, "target": target}
        return [
            self._row(shard, key, name, objective) | said | {"status": "failed", "error": reason}
            for name, objective in wanted
        ]

    def _identify(self, sample: Sample, arena: Arena, found: dict[str, int]) -> Generator:
        """The prediction on the whole image and the class to explain, for the arena to read out."""
        everyone_CN = torch.ones(1, len(arena.share_N), dtype=torch.bool)
        outputs = yield arena.query(self.masking, everyone_CN)
        found["prediction"] = int(outputs.prediction_C[0])
        if self.target == "prediction":
            target = found["prediction"]
        else:
            target = sample.label if self.target == "label" else self.target
        if target is None:
            raise ValueError("sample has no label to explain; use target=prediction")
        if not 0 <= target < outputs.n_classes:
            raise ValueError(f"class {target} is not one of the model's {outputs.n_classes}")
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

    def _row(self, shard: str, key: str, method: str, objective: Objective) -> Row:
        return {
            "dataset": self.data.name,
            "shard": shard,
            "key": key,
            **self.names,
            "method": method,
            "objective": objective,
            "fingerprint": self.fingerprints[method],
        }


def fingerprint(content: Any) -> str:
    """Content address of a JSON-like value: SHA-256 of its canonical form, 16 hex digits.

    Key order does not matter, nor whether a whole number is written 1 or 1.0.
    """

    def canonical(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): canonical(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [canonical(v) for v in value]
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    text = json.dumps(canonical(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
