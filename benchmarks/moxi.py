"""MoXI's greedy search on a ViT with token drop: this engine against the naive schedule.

    python -m benchmarks.moxi                                      # two cores: every 14th step
    python -m benchmarks.moxi --device cuda --every 1 --images 64  # a GPU: all steps

The naive schedule scores all n candidates at every step and embeds the image again for every row,
as the authors' code does, one image at a time. Same weights, same images, same steps, one process.
A turn is one step of one schedule; a large matrix product, the ceiling, takes its turns as well, so
that a busy machine wrongs nobody (`benchmarks.turns`); ratios have 95 % intervals over --rounds.
What is done once an image or a model is done before: embedding (ours), counting FLOPs, finding the
size of a batch. OpenMP's threads wait as they do in workers. Needs torch, timm and numpy only.
Weights are random (speed does not depend on them) unless --weights names a checkpoint. With
--every k only every k-th step is run, from a given prefix; sums over steps scale by k.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.turns import Ceiling, as_workers, in_turns, machine, ratio, seconds, switch
from pipeline.engine import Engine
from pipeline.engine.device import keep_freed_memory
from pipeline.engine.pool import quadratic
from pipeline.game import Coalitions, Objective
from pipeline.game.arena import Arena
from pipeline.game.sets import read_out
from pipeline.masking.token_drop import TokenDrop
from pipeline.models import PRECISIONS, Model
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid
from pipeline.scores.target import TIES
from pipeline.searches import first_best, joined

GRID = 14
N = GRID * GRID
TIE = TIES["log_odds"]


def load(name: str, weights: str | None, device: torch.device, precision: str) -> Model:
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False, checkpoint_path=weights or "").eval()
    for parameter in module.parameters():
        if parameter.ndim > 1 and not weights:
            torch.nn.init.trunc_normal_(parameter, std=0.05)  # so that patches differ
    config = timm.data.resolve_model_data_config(module)
    model = Model(
        module=module.requires_grad_(False).to(device, PRECISIONS[precision]),
        preprocessing={k: config[k] for k in ("input_size", "mean", "std")},
        device=device,
    )
    _ = model.has_features  # finding out takes a forward
    return model


def images(count: int, model: Model) -> list[Tensor]:
    """Smooth random images: noise at 14 x 14, enlarged."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(count, 3, 14, 14, generator=generator)
    return list(torch.nn.functional.interpolate(noise, model.input_hw, mode="bicubic"))


def prefix_of(step: int) -> Tensor:
    """The players picked before a step: the same for every schedule."""
    picked_N = torch.zeros(N, dtype=torch.bool)
    picked_N[torch.randperm(N, generator=torch.Generator().manual_seed(2))[:step]] = True
    return picked_N


class Ours:
    """A step of some images in flight together; `forwards`, `tokens`, `flops` of them."""

    def __init__(self, model: Model, pictures: list[Tensor], objective: Objective, precision: str):
        self.images, self._objective, self._precision = len(pictures), objective, precision
        self._engine = Engine(model)
        regions_HW = PatchGrid(grid=GRID).cut(*model.input_hw)
        self._arenas = [
            Arena(model, View(x, model.preprocessing), regions_HW, "") for x in pictures
        ]
        for arena in self._arenas:
            arena.classes = (0,)
        list(self._engine.run((a.prepare(TokenDrop()) for a in self._arenas), in_flight=256))

    def __call__(self, step: int) -> tuple[list[int], dict[str, int]]:
        """The picks, and what they took."""
        switch(self._precision)
        found, before = {}, vars(self._engine.counters).copy()

        def named(i: int, arena: Arena):
            found[i], _ = yield from arena.play(self._pick(step), TokenDrop())

        tasks = (named(i, arena) for i, arena in enumerate(self._arenas))
        list(self._engine.run(tasks, in_flight=self.images))
        spent = {name: value - before[name] for name, value in vars(self._engine.counters).items()}
        return [found[i] for i in range(self.images)], spent

    def _pick(self, step: int):
        picked_N = prefix_of(step)
        candidates = (~picked_N).nonzero().flatten()
        sets_CN = joined(picked_N.numpy(), candidates.numpy())
        insertion = self._objective == "insertion"
        outputs = yield Coalitions(sets_CN if insertion else ~sets_CN)
        value_C = outputs.value_C if insertion else -outputs.value_C
        return int(candidates[first_best(value_C, TIE)])


class Naive:
    """All n candidates a step, picked ones too; every row embeds its image; one image."""

    images = 1

    def __init__(self, model: Model, picture: Tensor, objective: Objective, precision: str):
        self._model, self._objective, self._precision = model, objective, precision
        self._image_CHW = picture.to(model.device, model.dtype)
        self._flops: dict[int, float] = {}
        for length in (8, 64, N - 1):  # counting is no part of a turn
            with FlopCounterMode(display=False) as count:
                self._values(torch.arange(length)[None])
            self._flops[length] = count.get_total_flops()

    def __call__(self, step: int) -> tuple[list[int], dict[str, int]]:
        """The pick, and what it took."""
        switch(self._precision)
        picked_N = prefix_of(step)
        if self._objective == "insertion":
            kept = picked_N.nonzero().flatten()
            keep_CL = torch.cat([kept.expand(N, -1), torch.arange(N)[:, None]], 1)
        else:
            kept = (~picked_N).nonzero().flatten()
            keep_CL = kept.expand(N, -1)
            drop_C = torch.searchsorted(kept, torch.arange(N)).clamp(max=len(kept) - 1)
            mask_CL = torch.ones_like(keep_CL, dtype=torch.bool)
            mask_CL[torch.arange(N), drop_C] = False  # a picked one drops some other
            keep_CL = keep_CL[mask_CL].view(N, -1)
        value_C = self._values(keep_CL)
        value_C = value_C if self._objective == "insertion" else -value_C
        pick = first_best(value_C.masked_fill(picked_N, -torch.inf), TIE)
        length = keep_CL.shape[1]
        flops = round(N * quadratic(self._flops, length))
        return [pick], {"forwards": N, "tokens": N * (length + 1), "flops": flops}

    def _values(self, keep_CL: Tensor) -> Tensor:
        vit: Any = self._model.module
        with torch.inference_mode():
            x_BLD = vit._pos_embed(
                vit.patch_embed(self._image_CHW.expand(len(keep_CL), -1, -1, -1))
            )
            places_BL = torch.cat([torch.zeros(len(keep_CL), 1).long(), keep_CL + 1], 1)
            index = places_BL.to(x_BLD.device)[:, :, None].expand(-1, -1, x_BLD.shape[2])
            logits_BK = vit.forward_head(vit.norm(vit.blocks(x_BLD.gather(1, index)))).float()
        target_B1 = torch.zeros(len(keep_CL), 1, dtype=torch.long)
        return read_out(logits_BK, target_B1)[:, 1].cpu()


def compared(
    model: Model, pictures: list[Tensor], objective: Objective, precision: str, given: Any
) -> tuple[list[dict[str, Any]], dict[str, list[list[int]]]]:
    """A line of figures for each schedule, and its picks at each step."""
    schedules: dict[str, Any] = {
        "naive": Naive(model, pictures[0], objective, precision),
        "ours, 1 in flight": Ours(model, pictures[:1], objective, precision),
    }
    if given.images > 1:
        many = Ours(model, pictures, objective, precision)
        schedules[f"ours, {given.images} in flight"] = many
    ceiling = Ceiling(model.device, precision)
    steps = list(range(given.every // 2, N, given.every))
    for schedule in schedules.values():  # counts FLOPs, finds sizes of batches
        for step in steps:
            schedule(step)
    calls: dict[str, Callable[[Any], Any]] = {**schedules, "ceiling": ceiling}
    spent = in_turns(calls, steps, given.rounds, model.device)
    lines, picks = [], {}
    for name, schedule in schedules.items():
        firsts = [turns[0].result for turns in spent[name]]
        picks[name] = [picked for picked, _ in firsts]
        lines.append({"precision": precision, "objective": objective, "schedule": name})
        lines[-1] |= figures(spent, name, schedule.images, ceiling.flops)
    return lines, picks


def figures(spent: dict, name: str, images: int, ceiling: int) -> dict[str, Any]:
    """What a schedule took for an image, beside the naive one and the ceiling (FLOPs a turn)."""

    def took(of: str, quantity: str) -> float:
        return sum(turns[0].result[1][quantity] for turns in spent[of])

    wall, cpu = (seconds(spent[name], clock) for clock in ("wall", "cpu"))
    top = seconds(spent["ceiling"])
    rate = took(name, "flops") / ceiling / wall.shape[0]
    found = {
        "seconds/image": round(wall.mean(1).sum() / images, 3),
        "CPU seconds/image": round(cpu.mean(1).sum() / images, 3),
        "forwards/image": round(took(name, "forwards") / images),
        "token-forwards/image": round(took(name, "tokens") / images),
        "GFLOP/image": round(took(name, "flops") / images / 1e9, 1),
        "GFLOP/s": round(took(name, "flops") / wall.mean(1).sum() / 1e9, 1),
        "matmul GFLOP/s": round(ceiling / top.mean() / 1e9, 1),
        "matmul GFLOP/s at best": round(ceiling / top.min() / 1e9, 1),
        "share of ceiling": str(ratio(rate * top, wall)),
        "share of ceiling, CPU": str(ratio(rate * seconds(spent["ceiling"], "cpu"), cpu)),
    }
    if name != "naive":
        base_wall, base_cpu = (seconds(spent["naive"], clock) for clock in ("wall", "cpu"))
        found["speed-up"] = str(ratio(base_wall * images, wall))
        found["speed-up, CPU"] = str(ratio(base_cpu * images, cpu))
        found["FLOP ratio"] = round(took("naive", "flops") / (took(name, "flops") / images), 2)
    return found


def agreement(mine: list[list[int]], first: list[list[int]]) -> float:
    """Share of picks that are those of the first schedule, over the images that both have."""
    pairs = [(a, b) for m, f in zip(mine, first, strict=True) for a, b in zip(m, f, strict=False)]
    return sum(a == b for a, b in pairs) / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--weights", help="checkpoint for --model; default: random weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--precision", nargs="+", default=["fp32"], choices=["fp32", "tf32", "bf16"]
    )
    parser.add_argument("--images", type=int, default=1, help="in flight together")
    parser.add_argument("--every", type=int, default=14, help="run every so many steps; 1 runs all")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each schedule at each step")
    parser.add_argument("--objective", nargs="+", default=["insertion", "deletion"])
    parser.add_argument("--json", help="write the figures to this file too")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cpu":
        keep_freed_memory()
    print(f"{given.model}, every {given.every}th step, {given.rounds} rounds; {machine(device)}")
    lines, first = [], {}
    for precision in given.precision:
        model = load(given.model, given.weights, device, precision)
        pictures = images(given.images, model)
        for objective in given.objective:
            found, picks = compared(model, pictures, objective, precision, given)
            reference = first.setdefault(objective, picks["naive"])
            for line in found:
                same = agreement(picks[line["schedule"]], reference)
                line["picks equal to the first"] = round(same, 5)
                print("\n".join(f"{k:26} {v}" for k, v in line.items()), end="\n\n", flush=True)
            lines += found
    if given.json:
        with open(given.json, "w") as file:
            json.dump({"machine": machine(device), "lines": lines}, file, indent=1)


if __name__ == "__main__":
    as_workers()
    main()
