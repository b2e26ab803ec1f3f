"""Every schedule of MoXI's insertion search on one GPU: a table and a plot from one command.

    python -m benchmarks.gpu                       # torch, timm, numpy; matplotlib for the plot
    python -m benchmarks.gpu --device cpu --short  # does it run here? two tiny models, a minute

ViT-T/16 and ViT-B/16 (token drop, 196 players), ResNet-18 and EfficientNet-Lite0 (zero fill, 7 x 7
and 14 x 14 players), with random weights: speed does not depend on them, but for what `verified`
computes again and where `screened` stops. Schedules: naive (n rows at every step, one image, every
row embedded; every --every-th step from a given prefix, scaled), this engine in fp32, tf32, bf16,
verified (bf16 ranks, fp32 decides) and screened (stale gains rank, fp32 decides). Share of the
ceiling: FLOPs done a second beside a matrix product in the same precision (verified: bf16), right
before and after. A warm-up finds the sizes of batches.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.moxi import images
from benchmarks.turns import Ceiling, as_workers, machine, switch, timed
from pipeline.engine import Engine, Task
from pipeline.engine.device import keep_freed_memory
from pipeline.game.arena import Arena
from pipeline.masking import Masking, Shown
from pipeline.masking.token_drop import TokenDrop
from pipeline.masking.zero import Zero
from pipeline.methods.subset import Subset
from pipeline.models import Model
from pipeline.models.fusion import COUNTED
from pipeline.models.loading import ready
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid
from pipeline.scores.target import Target
from pipeline.searches import joined
from pipeline.searches.greedy import Greedy
from pipeline.searches.screened import Screened

CASES = [
    ("vit_tiny_patch16_224", 14),
    ("vit_base_patch16_224", 14),
    ("resnet18", 7),
    ("resnet18", 14),
    ("tf_efficientnet_lite0", 7),
    ("tf_efficientnet_lite0", 14),
]
SHORT = [("test_vit", 5), ("test_efficientnet", 5)]
SCHEDULES = ("naive", "fp32", "tf32", "bf16", "verified", "screened")
IN_FLIGHT = (1, 4, 16, 64, 256)


class Case(NamedTuple):
    """A model with its players."""

    name: str
    grid: int

    @property
    def masking(self) -> Masking:
        """Tokens are dropped where there are tokens."""
        return TokenDrop() if "vit" in self.name else Zero()


def load(name: str, device: torch.device, precision: str) -> Model:
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.trunc_normal_(parameter, std=0.05)  # so that players differ
    config = timm.data.resolve_model_data_config(module)
    told: dict[str, Any] = {k: config[k] for k in ("input_size", "mean", "std")}
    return ready(
        module,
        name=name,
        weights_hash="",
        preprocessing=told,
        device=device,
        precision=precision if precision in ("bf16", "verified") else "fp32",
    )


def search(model: Model, x_CHW: Tensor, case: Case, schedule: str, budget: int | None) -> Task:
    """A task: one image's whole search."""
    regions_HW = PatchGrid(grid=case.grid).cut(*model.input_hw)
    arena = Arena(model, View(x_CHW, model.preprocessing), regions_HW, "")
    yield from arena.meet(case.masking, 0)
    game = yield from arena.open(case.masking)
    how = Screened() if schedule == "screened" else Greedy()
    stop: Any = {} if budget is None else {"stop": "budget", "budget": budget}
    method = Subset(score=Target(), search=how, **stop)
    found, _ = yield from arena.play(method.explain(game), case.masking)
    return found["insertion"].evaluations


def ours(model: Model, case: Case, schedule: str, given: Any, in_flight: int) -> dict[str, float]:
    """Images an hour and FLOP/s, after a warm-up with the same engine."""
    pictures, engine = images(given.rounds * in_flight, model), Engine(model)
    switch(schedule)

    def run(some: Sequence[Tensor]) -> list[int]:
        tasks = (search(model, x, case, schedule, given.budget) for x in some)
        return list(engine.run(tasks, in_flight=in_flight))

    run(pictures[:in_flight])
    before = replace(engine.counters)
    spent = timed(lambda: run(pictures), model.device)
    after = engine.counters
    flops, forwards = after.flops - before.flops, after.forwards - before.forwards
    return {
        "images/hour": 3600 * len(pictures) / spent.wall,
        "FLOP/s": flops / spent.wall,
        "forwards/image": forwards / len(pictures),
    }


def naive(model: Model, case: Case, given: Any) -> dict[str, float]:
    """n rows at every step, of a given prefix, whoever is picked; every row is embedded."""
    n, masking = case.grid**2, case.masking
    switch("fp32")
    (x_CHW,) = images(1, model)
    regions_HW = PatchGrid(grid=case.grid).cut(*model.input_hw)
    arena = Arena(model, View(x_CHW, model.preprocessing), regions_HW, "")
    list(Engine(model).run([arena.prepare(masking)], in_flight=1))
    prepared, x_CHW = arena._prepared[masking], x_CHW.to(model.device)

    @torch.inference_mode()
    def step(number: int, rows: int = n) -> None:
        picked_N = np.arange(n) < number
        sets_CN = joined(picked_N, np.resize(np.flatnonzero(~picked_N), rows))
        if isinstance(masking, TokenDrop):
            vit: Any = model.module
            vit._pos_embed(vit.patch_embed(x_CHW.expand(rows, -1, -1, -1)))
        model.classify(masking.encode(model, [Shown(prepared, sets_CN)])).cpu()

    numbers = list(range(given.every // 2, min(n, given.budget or n), given.every))
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as count:
        for number in numbers:
            step(number, 1)
    step(numbers[0])
    spent = timed(lambda: [step(number) for number in numbers], model.device)
    return {
        "images/hour": 3600 / (spent.wall * given.every),
        "FLOP/s": n * count.get_total_flops() / spent.wall,
        "forwards/image": float(n * len(numbers) * given.every),
    }


def measured(case: Case, schedule: str, device: torch.device, given: Any) -> list[dict[str, Any]]:
    """A line for each number of images in flight; fewer where they do not fit into memory."""
    model = load(case.name, device, schedule)
    ceiling = Ceiling(device, {"verified": "bf16"}.get(schedule, own(schedule)), given.size)
    lines = []
    for in_flight in (1,) if schedule == "naive" else given.in_flight:
        before = timed(ceiling, device).wall
        if schedule == "naive":
            found = naive(model, case, given)
        else:
            found = ours(model, case, schedule, given, in_flight)
        top = 2 * ceiling.flops / (before + timed(ceiling, device).wall)
        line = {"model": case.name, "players": case.grid**2, "schedule": schedule}
        line |= {"in flight": in_flight} | found | {"ceiling": top}
        lines.append(line | {"share of ceiling": found["FLOP/s"] / top})
        print(row(lines[-1]), flush=True)
    return lines


def own(schedule: str) -> str:
    """The precision that a schedule computes in."""
    return schedule if schedule in ("tf32", "bf16") else "fp32"


HEADS = ("model", "players", "schedule", "in flight", "images/hour", "forwards/image")
HEADS += ("TFLOP/s", "share of ceiling")


def row(line: dict[str, Any]) -> str:
    """Of the Markdown table."""
    told = {"TFLOP/s": line["FLOP/s"] / 1e12} | line
    cells = (told[head] for head in HEADS)
    return f"| {' | '.join(f'{c:,.3g}' if isinstance(c, float) else str(c) for c in cells)} |"


def plot(lines: list[dict[str, Any]], path: Path) -> None:
    """Images an hour by images in flight, a panel a case."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys((line["model"], line["players"]) for line in lines))
    figure = Figure(figsize=(3.2 * len(cases), 3.2), layout="constrained")
    for axes, case in zip(figure.subplots(1, len(cases), squeeze=False)[0], cases, strict=True):
        mine = [line for line in lines if (line["model"], line["players"]) == case]
        for schedule in dict.fromkeys(line["schedule"] for line in mine):
            some = [line for line in mine if line["schedule"] == schedule]
            x, y = ([line[name] for line in some] for name in ("in flight", "images/hour"))
            axes.loglog(x, y, marker="o", base=2, label=schedule)
        axes.set(title=f"{case[0]}, {case[1]}", xlabel="images in flight", ylabel="images an hour")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--short", action="store_true", help="two tiny models, a few picks")
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=SCHEDULES)
    parser.add_argument("--in-flight", nargs="+", type=int, default=list(IN_FLIGHT))
    parser.add_argument("--rounds", type=int, default=1, help="times the images in flight")
    parser.add_argument("--budget", type=int, help="picks of a search; default: all players")
    parser.add_argument("--every", type=int, default=7, help="naive runs every so many steps")
    parser.add_argument("--size", type=int, help="of the matrix product")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    given = parser.parse_args(arguments)
    cases, device = [Case(*case) for case in CASES], torch.device(given.device)
    if given.short:
        cases, given.in_flight, given.size = [Case(*case) for case in SHORT], [1, 4], 512
        given.budget = given.budget or 3
        given.every = 1
    if device.type == "cpu":
        keep_freed_memory()
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"{machine(device)}\n\n| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    lines = []
    for case in cases:
        for schedule in given.schedules:
            lines += measured(case, schedule, device, given)
            told = {"machine": machine(device), "lines": lines}  # kept, should the next one fail
            (given.out / "gpu.json").write_text(json.dumps(told, indent=1))
    plot(lines, given.out / "gpu.png")


if __name__ == "__main__":
    as_workers()
    main()
