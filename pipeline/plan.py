"""What a run will take, before it is begun: forwards, device hours, memory and bytes, by method.

Methods are played on real images, cut into their players: what they ask of other programs
(heatmaps) is computed and timed, coalitions are counted by size and answered at random, at the
price of a row of that size, which comes from timing the engine at a few sizes.
"""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.data import SampleRef
from pipeline.engine import Engine, Reply
from pipeline.engine.device import Peak
from pipeline.game import Ask, Coalitions
from pipeline.game.arena import Turn
from pipeline.masking import Masking
from pipeline.studies.curves.rehearsal import RandomAnswers, answered, made_up
from pipeline.studies.curves.work import CurvesWork, Ready

SIZES = (0.02, 0.25, 0.5, 0.75, 1.0)
"""Shares of visible players at which rows are timed."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One method's cost over the whole data set. `bytes`: its rows before compression.

    `peak_bytes`: the most memory that a batch took, of its coalitions or of other programs, beyond
    the model (`pipeline.engine.device.Peak`).
    """

    method: str
    images: int
    forwards: int
    device_hours: float
    bytes: int
    peak_bytes: int


@dataclass
class _Cost:
    """Of one method on the images played: coalitions by their visible share, of the search and of
    the judge, seconds of other programs, bytes of rows."""

    searched: Counter = field(default_factory=Counter)
    judged: Counter = field(default_factory=Counter)
    seconds: float = 0.0
    bytes: int = 0

    def rows(self, work: CurvesWork) -> list[tuple[Masking, Counter]]:
        """Coalitions under each masking."""
        return [(work.masking, self.searched), (work.curve_masking, self.judged)]


def plan(work: CurvesWork, refs: Sequence[SampleRef], *, timed_images: int) -> list[Plan]:
    """Time rows on the first readable images; one Plan a method.

    Raises UsageError where none can be read.
    """
    work.check()
    images = list(islice(_readable(work, refs), timed_images))
    if not images:
        raise UsageError(f"dataset.shards: none of {len(refs)} images can be read")
    price, peaks = {}, {}
    for masking in dict.fromkeys((work.masking, work.curve_masking)):
        peak = Peak(work.model.device)
        price[masking] = _seconds_per_row(work, masking, images)
        peaks[masking] = peak.bytes()
    ends = 2 if work.masking == work.curve_masking else 3
    hours = ends * len(refs) * float(price[work.masking][1].max()) / 3600
    plans = [
        Plan(
            method="(end points)",
            images=len(refs),
            forwards=ends * len(refs),
            device_hours=hours,
            bytes=0,
            peak_bytes=max(peaks.values()),
        )
    ]
    for name in work.methods:
        cost, engine, peak = _Cost(), Engine(work.model), Peak(work.model.device)
        list(engine.run([_rehearsal(work, image, name, cost) for image in images], in_flight=8))
        asked = [masking for masking, rows in cost.rows(work) if rows]
        peak_bytes = max(peak.bytes(), *(peaks[masking] for masking in asked), 0)
        forwards = cost.searched.total() + cost.judged.total() + engine.counters.forwards
        seconds = cost.seconds + _price(cost.searched, price[work.masking])
        seconds += _price(cost.judged, price[work.curve_masking])
        share = len(refs) / len(images)
        plans.append(
            Plan(
                method=name,
                images=len(refs),
                forwards=round(forwards * share),
                device_hours=seconds * share / 3600,
                bytes=round(cost.bytes * share),
                peak_bytes=peak_bytes,
            )
        )
    return plans


def _rehearsal(work: CurvesWork, ready: Ready, name: str, cost: _Cost) -> Turn[None]:
    """Play a method and its judge on one image, coalitions answered at random."""
    at_random = RandomAnswers(work.model)
    arena = yield from work.arena(ready, {})
    game, method = made_up(arena, at_random), work.methods[name]
    arena.classes = game.ends.classes
    yield from arena.prepare(work.masking)
    seat = arena.seat(work.masking)

    def play(coroutine: Generator[Ask, Any, Any], asked: Counter) -> Turn[Any]:
        def told(ask: Ask, reply: Reply) -> Any:
            if isinstance(ask, Coalitions):
                asked.update(ask.coalitions_CN.float().mean(1).tolist())
            cost.seconds += reply.seconds
            return reply.answer

        return (yield from answered(coroutine, game, at_random, seat, told))

    explanation = yield from play(method.explain(game), cost.searched)
    own = work.masking == work.curve_masking
    for objective, found in explanation.items():
        along = found if own else replace(found, path=None)
        row = yield from play(work.judge.judge(along, objective, game), cost.judged)
        cost.bytes += _bytes(row | vars(found))


def _bytes(row: Mapping[str, Any]) -> int:
    """Size of a row before compression: floats of 4 bytes, and some 200 for names and numbers."""
    lists = [v for v in row.values() if isinstance(v, list | np.ndarray | Tensor)]
    return 200 + sum(4 * len(v) for v in lists)


def _seconds_per_row(
    work: CurvesWork, masking: Masking, images: list[Ready]
) -> tuple[np.ndarray, np.ndarray]:
    """Share of visible players and device seconds of a row, at each of SIZES."""
    seconds = []
    engine = Engine(work.model)
    for share in SIZES:
        for warm in (True, False):
            before = (engine.counters.seconds, engine.counters.forwards)
            tasks = [_timed(work, masking, image, share, 8 if warm else 32) for image in images]
            list(engine.run(tasks, in_flight=len(tasks)))
        spent = engine.counters
        seconds.append((spent.seconds - before[0]) / (spent.forwards - before[1]))
    return np.array(SIZES), np.array(seconds)


def _timed(work: CurvesWork, masking: Masking, ready: Ready, share: float, rows: int) -> Turn[Any]:
    arena = yield from work.arena(ready, {})
    arena.classes = (0,)
    yield from arena.prepare(masking)
    n_players = len(arena.share_N)
    places_CN = torch.rand(rows, n_players).argsort(1).argsort(1)

    def ask() -> Generator[Ask, Any, None]:
        yield Coalitions(places_CN < max(1, round(share * n_players)))

    yield from arena.play(ask(), masking)


def _price(rows: Counter, timed: tuple[np.ndarray, np.ndarray]) -> float:
    """Device seconds of rows by their visible share, by the line through the timed sizes."""
    if not rows:
        return 0.0
    visible, count = np.array(list(rows)), np.array(list(rows.values()))
    return float((np.interp(visible, *timed) * count).sum())


def _readable(work: CurvesWork, refs: Iterable[SampleRef]) -> Iterable[Ready]:
    for ref in refs:
        try:
            yield work.read(ref, work.wanted, {})
        except ValueError:
            continue
