"""What a run will take, before it is begun: forwards, device hours and bytes, method by method.

A method's coroutine is played against random values, which tells how many rows of which size it
asks for; the time of a row comes from timing the engine on real images at a few sizes.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from pipeline import curves
from pipeline.arena import Arena
from pipeline.data import SampleRef
from pipeline.engine import Engine, Task
from pipeline.evaluate import Evaluation
from pipeline.masking import Masking
from pipeline.methods import Attribution, Game, Objective, Outputs, drive

SIZES = (0.02, 0.25, 0.5, 0.75, 1.0)
"""Shares of visible players at which rows are timed."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One method's cost over the whole data set. `bytes`: its rows before compression."""

    method: str
    images: int
    forwards: int
    device_hours: float
    bytes: int


def plan(evaluation: Evaluation, refs: Sequence[SampleRef], *, timed_images: int) -> list[Plan]:
    """Time rows on the first readable images; one Plan a method."""
    evaluation.check()
    n_players = evaluation.n_players
    images = list(islice(_readable(evaluation, refs), timed_images))
    if not images:
        raise ValueError("none of the first images can be read")
    seconds = {
        masking: _seconds_per_row(evaluation, masking, images, n_players)
        for masking in {evaluation.masking, evaluation.curve_masking}
    }
    plans = []
    for name, method in evaluation.methods.items():
        sizes, curve_sizes, rows = _rehearse(evaluation, name, n_players)
        heatmap_passes = (
            0 if hasattr(method, "explain") else method.evaluations(n_players, ["insertion"])
        )
        per_image = _cost(seconds[evaluation.masking], sizes, n_players)
        per_image += _cost(seconds[evaluation.curve_masking], curve_sizes, n_players)
        # a backward pass costs about two forwards
        per_image += (
            3
            * heatmap_passes
            * _cost(seconds[evaluation.masking], Counter({n_players: 1}), n_players)
        )
        plans.append(
            Plan(
                method=name,
                images=len(refs),
                forwards=(sizes.total() + curve_sizes.total() + heatmap_passes) * len(refs),
                device_hours=per_image * len(refs) / 3600,
                bytes=sum(map(_bytes, rows)) * len(refs),
            )
        )
    return plans


def _rehearse(evaluation: Evaluation, name: str, n_players: int) -> tuple[Counter, Counter, list]:
    """Rows by visible players, of the search and of the curves, and rows like those to come."""
    method = evaluation.methods[name]
    rng = np.random.default_rng(0)
    asked: Counter[int] = Counter()

    def answer(coalitions_CN: Tensor) -> Outputs:
        asked.update(coalitions_CN.sum(1).tolist())
        values_CT = torch.from_numpy(rng.normal(size=(len(coalitions_CN), 2))).float()
        nobody_C = torch.ones(
            len(coalitions_CN), dtype=torch.long
        )  # the target never wins: no stop
        return Outputs(
            classes=(0, 2), logits_CT=values_CT, log_odds_CT=values_CT, prediction_C=nobody_C
        )

    ends = answer(torch.stack([torch.zeros(n_players).bool(), torch.ones(n_players).bool()]))
    asked.clear()
    objectives = list(method.objectives)
    explain = getattr(method, "explain", None)
    if explain is not None:
        game = Game(n_players=n_players, key="", ends=ends)
        found = drive(explain(game, objectives), answer)
    else:
        order = rng.permutation(n_players).tolist()
        found = dict.fromkeys(
            objectives, Attribution(order=order, evaluations=1, scores_N=torch.rand(n_players))
        )
    searched = Counter(asked)
    asked.clear()
    rows = [
        _row(evaluation, name, objective, attribution, ends, answer)
        for objective, attribution in found.items()
    ]
    return searched, Counter(asked), rows


def _row(evaluation, name, objective: Objective, found: Attribution, ends, answer) -> dict:
    same = evaluation.masking == evaluation.curve_masking
    n_players = len(ends.value_C) and found.scores_N is not None and len(found.scores_N)
    n_players = n_players or max(found.order) + 1
    judged = curves.curve(found.order, n_players, objective, ends, found.path if same else None)
    outputs = drive(judged, answer)
    points = outputs.value_C
    return {
        "key": "n00000000_00000000",
        "method": name,
        "objective": objective,
        "fingerprint": evaluation.fingerprints[name],
        "order": found.order,
        "scores": None if found.scores_N is None else found.scores_N.tolist(),
        "pairs": None if found.pairs is None else found.pairs.tolist(),
        "interaction": None if found.singles_N is None else points[1:].tolist(),
        "fraction": np.linspace(0, 1, len(points)),
        "probability": points.sigmoid().tolist(),
        "log_odds": points.tolist(),
        "top1": outputs.top1_C.tolist(),
    }


def _bytes(row: dict) -> int:
    """Size of a row before compression: floats of 4 bytes, and some 200 for names and numbers."""
    lists = [v for v in row.values() if isinstance(v, list | np.ndarray)]
    return 200 + sum(4 * len(v) for v in lists)


def _seconds_per_row(
    evaluation: Evaluation, masking: Masking, images: list[Tensor], n_players: int
) -> tuple[np.ndarray, np.ndarray]:
    """Visible players and device seconds of a row, at each of SIZES."""
    sizes, seconds = [], []
    engine = Engine(evaluation.model)
    for share in SIZES:
        visible = max(1, round(share * n_players))
        for warm in (True, False):
            before = (engine.counters.seconds, engine.counters.forwards)
            rows = 8 if warm else 32
            tasks = [_sample(evaluation, masking, image, visible, rows) for image in images]
            list(engine.run(tasks, in_flight=len(tasks)))
        sizes.append(visible)
        spent = engine.counters
        seconds.append((spent.seconds - before[0]) / (spent.forwards - before[1]))
    return np.array(sizes), np.array(seconds)


def _sample(
    evaluation: Evaluation, masking: Masking, image_CHW: Tensor, visible: int, rows: int
) -> Task:
    with torch.no_grad():
        regions_HW = evaluation.players(image_CHW)
        arena = Arena(evaluation.model, image_CHW, regions_HW, (0,), "")
        arena.prepare(masking)
    n_players = len(arena.share_N)
    places_CN = torch.rand(rows, n_players).argsort(1).argsort(1)

    def ask():
        yield places_CN < visible

    yield from arena.play(ask(), masking)


def _cost(timed: tuple[np.ndarray, np.ndarray], rows: Counter, n_players: int) -> float:
    """Device seconds of rows, {visible players: count}, by the line through the timed sizes."""
    if not rows:
        return 0.0
    visible, count = np.array(list(rows)), np.array(list(rows.values()))
    return float((np.interp(visible, *timed) * count).sum())


def _readable(evaluation: Evaluation, refs: Iterable[SampleRef]) -> Iterable[Tensor]:
    for ref in refs:
        try:
            yield evaluation.read(ref)[1]
        except ValueError:
            continue
