"""Host work of full searches, both objectives, when the model costs nothing.

    python -m benchmarks.host                      # one core, 14 x 14 players, 8 images in flight

A null model answers every batch at once with random features, two classes to keep the read-out
small, and rows weigh what token drop makes them weigh. What is left is what the host does for each
image: coalitions, batches, answers, picks, curves, rows. On a GPU it hides behind the device only
while it is the shorter of the two. Needs torch, timm and numpy only.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pipeline.data import Sample
from pipeline.data.shards import Shards
from pipeline.engine import Engine, Task
from pipeline.game import OBJECTIVES, Game, Objective
from pipeline.judges.regions import Regions
from pipeline.masking import Shown
from pipeline.masking.token_drop import TokenDrop
from pipeline.methods import Attribution, Coroutine
from pipeline.methods.subset import Subset
from pipeline.models import Model
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid
from pipeline.scores.target import Target
from pipeline.searches.greedy import Greedy
from pipeline.studies.curves.work import CurvesWork, Ready

ANSWERS_BK = torch.randn(1 << 16, 2, generator=torch.Generator().manual_seed(0))
SPENT: defaultdict[str, float] = defaultdict(float)
"""Seconds of each stage."""


@dataclass(frozen=True, kw_only=True)
class Null:
    """Token drop's lengths on a 16 x 16 pixel patch a player, and no model behind them."""

    def begin(self, model: Model, image_CHW: Tensor, regions_HW: Tensor) -> np.ndarray:
        """Tokens that each player holds."""
        return np.ones(int(regions_HW.max()) + 1, dtype=np.float32)

    def prepare(self, model: Model, begun: np.ndarray) -> Generator[Any, Any, Any]:
        """Asks nothing."""
        yield from ()
        return _Tokens(begun)

    def lengths(self, model: Model, prepared: Any, coalitions_CN: Tensor) -> int | np.ndarray:
        """Those of token drop with one prefix token."""
        return TokenDrop().lengths(model, prepared, coalitions_CN)

    def encode(self, model: Model, parts: list[Shown]) -> Tensor:
        """Any features."""
        return ANSWERS_BK[: sum(map(len, parts))]


@dataclass(frozen=True)
class _Tokens:
    held_N: np.ndarray


class _Bare(torch.nn.Module):
    """Features are logits."""

    num_prefix_tokens = 1

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.flatten(1)[:, :2]


def timed(coroutine: Generator, stage: str) -> Generator:
    """A coroutine whose own seconds go to `stage`, and to no stage around it."""
    reply = None
    while True:
        start, inner = time.perf_counter(), SPENT["inner"]
        try:
            ask = coroutine.send(reply)
        except StopIteration as stop:
            return stop.value
        finally:
            seconds = time.perf_counter() - start
            SPENT[stage] += seconds - (SPENT["inner"] - inner)
            SPENT["inner"] = inner + seconds
        reply = yield ask


@dataclass(frozen=True, kw_only=True)
class Searching(Subset):
    """Its search is a stage."""

    def explain(self, game: Game) -> Coroutine:
        """Timed."""
        return timed(super().explain(game), "search")


@dataclass(frozen=True, kw_only=True)
class Judging(Regions):
    """Its judgement is a stage."""

    def judge(
        self, found: Attribution, objective: Objective, game: Game
    ) -> Generator[Any, Any, dict[str, Any]]:
        """Timed."""
        return timed(super().judge(found, objective, game), "judge and row")


def both() -> dict[str, Searching]:
    """MoXI's two searches."""
    insertion, deletion = Target(visible="picked"), Target(visible="others", sign=-1)
    scores = dict(zip(OBJECTIVES, (insertion, deletion), strict=True))
    return {f"moxi_{o}": Searching(score=scores[o], search=Greedy()) for o in OBJECTIVES}


def work(grid: int) -> CurvesWork:
    """The work that workers do, on no data."""
    size, methods = (3, 16 * grid, 16 * grid), both()
    preprocessing = {"input_size": size, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    addresses = dict.fromkeys(methods, "")
    return CurvesWork(
        data=Shards(name="null", shards=[]),
        model=Model(module=_Bare(), preprocessing=preprocessing),
        fingerprints=addresses,
        order_fingerprints=addresses,
        players=PatchGrid(grid=grid),
        masking=Null(),
        curve_masking=Null(),
        judge=Judging(),
        methods=methods,
        names={},
    )


def task(job: CurvesWork, number: int) -> Task:
    """One image, decoded and cut beforehand: decode threads do that."""
    sample = Sample(shard="null", key=str(number), encoded=b"", label=0)
    image_CHW = torch.zeros(job.model.preprocessing["input_size"])
    view = View(image_CHW, job.model.preprocessing, sample)
    regions_HW = job.players(view)
    begun = {job.masking: job.masking.begin(job.model, image_CHW, regions_HW)}
    ready = Ready(sample, view, regions_HW, cast(dict, begun))
    return timed(job.explain(ready, job.wanted, {}), "judge and row")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--grid", type=int, default=14)
    parser.add_argument("--tokens", type=int, default=32768, help="of a batch: a GPU's default")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many counts")
    given = parser.parse_args()
    torch.set_num_threads(1)
    job = work(given.grid)
    best: dict[str, float] = {"host": float("inf")}
    for _ in range(given.repeats):
        tasks = [task(job, number) for number in range(given.images)]
        engine = Engine(job.model, tokens_per_batch=given.tokens)
        SPENT.clear()
        start, cpu = time.perf_counter(), time.process_time()
        rows = [row for found in engine.run(tasks, in_flight=given.in_flight) for row in found]
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        assert len(rows) == 2 * given.images and all(row["status"] == "ok" for row in rows)
        stages = {
            "search": SPENT["search"],
            "judge and row": SPENT["judge and row"],
            "launch": engine.counters.seconds,
        }
        stages["engine"] = seconds - sum(stages.values())
        if seconds < best["host"]:
            best = {"host": seconds, "of it CPU": cpu} | stages
    each = {stage: 1e3 * seconds / given.images for stage, seconds in best.items()}
    counters = engine.counters
    print(
        f"{given.grid} x {given.grid} players, both objectives, {given.in_flight} in flight, "
        f"batches of {given.tokens} tokens, torch {torch.__version__}, one thread"
    )
    print(f"forwards/image {counters.forwards / given.images:.0f}")
    print(f"batches/image {counters.batches / given.images:.1f}")
    for stage, milliseconds in each.items():
        print(f"{stage:14} {milliseconds:7.1f} ms/image")


if __name__ == "__main__":
    main()
