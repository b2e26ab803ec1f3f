"""MoXI's greedy search on a ViT with token drop: this engine against the naive schedule.

    python -m benchmarks.moxi --device cpu --every 14              # two cores: every 14th step
    python -m benchmarks.moxi --device cuda --every 1 --images 64  # a GPU: all steps

The naive schedule scores all n candidates at every step and embeds the image again for every row,
as the authors' code does, one image at a time. Same weights, same images, same steps, one process;
the schedules take turns --repeats times and the best time of each counts, so that a busy machine
wrongs none of them. Needs torch, timm and numpy only. Weights are random (speed does not depend on
them) unless --weights names a checkpoint. With --every k only every k-th step is run, from a given
prefix; sums over steps scale by k.
"""

import argparse
import json
import time
from collections import defaultdict

import timm
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.engine import Engine
from pipeline.engine.device import keep_freed_memory
from pipeline.game import Coalitions, Objective
from pipeline.game.arena import Arena
from pipeline.game.sets import read_out
from pipeline.masking.token_drop import TokenDrop
from pipeline.models import PRECISIONS, Model
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid
from pipeline.scores.target import TIES
from pipeline.searches import first_best, joined

TIE = TIES["log_odds"]


def load(name: str, weights: str | None, device: torch.device, precision: str) -> Model:
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False, checkpoint_path=weights or "").eval()
    for parameter in module.parameters():
        if parameter.ndim > 1 and not weights:
            torch.nn.init.trunc_normal_(parameter, std=0.05)  # so that patches differ
    config = timm.data.resolve_model_data_config(module)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    return Model(
        module=module.requires_grad_(False).to(device, PRECISIONS[precision]),
        preprocessing={k: config[k] for k in ("input_size", "mean", "std")},
        device=device,
    )


def images(count: int, model: Model) -> list[Tensor]:
    """Smooth random images: noise at 14 x 14, enlarged."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(count, 3, 14, 14, generator=generator)
    return list(torch.nn.functional.interpolate(noise, model.input_hw, mode="bicubic"))


def steps(n: int, every: int) -> list[int]:
    return list(range(every // 2, n, every))


def prefix_of(step: int, n: int) -> Tensor:
    """The players picked before a step: the same for every schedule."""
    picked_N = torch.zeros(n, dtype=torch.bool)
    picked_N[torch.randperm(n, generator=torch.Generator().manual_seed(2))[:step]] = True
    return picked_N


def search(model: Model, image_CHW: Tensor, objective: Objective, every: int):
    """An image's steps as a task for the engine; returns the picks."""
    arena = Arena(
        model, View(image_CHW, model.preprocessing), PatchGrid(grid=14).cut(*model.input_hw), ""
    )
    arena.classes = (0,)
    yield from arena.prepare(TokenDrop())
    sign = 1 if objective == "insertion" else -1

    def play():
        picks = []
        for step in steps(196, every):
            picked_N = prefix_of(step, 196)
            candidates = (~picked_N).nonzero().flatten()
            sets_CN = joined(picked_N.numpy(), candidates.numpy())
            outputs = yield Coalitions(sets_CN if objective == "insertion" else ~sets_CN)
            picks.append(int(candidates[first_best(sign * outputs.value_C, TIE)]))
        return picks

    picks, _ = yield from arena.play(play(), TokenDrop())
    return picks


def ours(model: Model, pictures: list[Tensor], objective: Objective, every: int, in_flight: int):
    engine = Engine(model)
    tasks = {i: search(model, x, objective, every) for i, x in enumerate(pictures)}
    found: dict[int, list[int]] = {}

    def named(i, task):
        found[i] = yield from task

    start = time.perf_counter()
    list(engine.run((named(i, t) for i, t in tasks.items()), in_flight=in_flight))
    seconds = time.perf_counter() - start
    spent = engine.counters
    return [found[i] for i in tasks], seconds, spent.flops, spent.forwards, spent.tokens


def naive(model: Model, pictures: list[Tensor], objective: Objective, every: int, rows: int = 196):
    """All n candidates a step, picked ones too; every row embeds its image; one image at a time."""
    vit, n = model.module, 196
    sign = 1 if objective == "insertion" else -1

    def values(image_CHW: Tensor, keep_CL: Tensor) -> Tensor:
        x_BLD = vit._pos_embed(vit.patch_embed(image_CHW.expand(len(keep_CL), -1, -1, -1)))
        places_BL = torch.cat([torch.zeros(len(keep_CL), 1).long(), keep_CL + 1], 1)
        index = places_BL.to(model.device)[:, :, None].expand(-1, -1, x_BLD.shape[2])
        logits_BK = vit.forward_head(vit.norm(vit.blocks(x_BLD.gather(1, index)))).float()
        target_B1 = torch.zeros(len(keep_CL), 1, dtype=torch.long)
        return read_out(logits_BK, target_B1)[:, 1].cpu()

    found, flops, forwards, tokens = [], 0, 0, 0
    counted: dict[int, int] = {}
    start = time.perf_counter()
    with torch.inference_mode():
        for picture in pictures:
            image_CHW, picks = picture.to(model.device, model.dtype), []
            for step in steps(n, every):
                picked_N = prefix_of(step, n)
                if objective == "insertion":
                    kept = picked_N.nonzero().flatten()
                    keep_CL = torch.cat([kept.expand(n, -1), torch.arange(n)[:, None]], 1)
                else:
                    kept = (~picked_N).nonzero().flatten()
                    keep_CL = kept.expand(n, -1).clone()
                    drop_C = torch.searchsorted(kept, torch.arange(n)).clamp(max=len(kept) - 1)
                    mask_CL = torch.ones_like(keep_CL, dtype=torch.bool)
                    mask_CL[torch.arange(n), drop_C] = False  # a picked one drops some other
                    keep_CL = keep_CL[mask_CL].view(n, -1)
                length = keep_CL.shape[1]
                if length not in counted:
                    with FlopCounterMode(display=False) as count:
                        values(image_CHW, keep_CL[:1])
                    counted[length] = count.get_total_flops()
                value_C = torch.cat([values(image_CHW, part) for part in keep_CL.split(rows)])
                value_C = (sign * value_C).masked_fill(picked_N, -torch.inf)
                picks.append(first_best(value_C, TIE))
                flops += n * counted[length]
                forwards += n
                tokens += n * (length + 1)
            found.append(picks)
    return found, time.perf_counter() - start, flops, forwards, tokens


def matmul_ceiling(device: torch.device, precision: str, size: int) -> float:
    """FLOP/s of a large square matrix product."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    a = torch.randn(size, size, device=device, dtype=PRECISIONS[precision])
    best = 0.0
    for _ in range(6):
        sync(device)
        start = time.perf_counter()
        a @ a
        sync(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--weights", help="checkpoint for --model; default: random weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=list(PRECISIONS))
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--in-flight", type=int, help="default: all images")
    parser.add_argument("--every", type=int, default=14, help="run every so many steps; 1 runs all")
    parser.add_argument("--repeats", type=int, default=1, help="the best of so many counts")
    parser.add_argument("--objective", nargs="+", default=["insertion", "deletion"])
    parser.add_argument("--json", help="write the figures to this file too")
    given = parser.parse_args()
    device = torch.device(given.device)
    name = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{torch.get_num_threads()} threads"
    )
    print(f"{given.model}, {device.type} ({name}), torch {torch.__version__}, step {given.every}")
    if device.type == "cpu":
        keep_freed_memory()
    size = 4096 if device.type == "cpu" else 8192
    figures, reference = [], {}
    for precision in given.precision:
        model = load(given.model, given.weights, device, precision)
        pictures = images(given.images, model)
        for objective in given.objective:
            schedules = {
                "naive": lambda m=model, p=pictures, o=objective: naive(m, p[:1], o, given.every),
                "ours, 1 in flight": lambda m=model, p=pictures, o=objective: ours(
                    m, p[:1], o, given.every, 1
                ),
            }
            if given.images > 1:
                many = given.in_flight or given.images
                schedules[f"ours, {many} in flight"] = (
                    lambda m=model, p=pictures, o=objective, k=many: ours(m, p, o, given.every, k)
                )
            base = None
            ours(model, pictures[:1], objective, 49, 1)  # warm up
            runs, ceilings = defaultdict(list), []
            for _ in range(given.repeats):
                for schedule, run in schedules.items():
                    ceilings.append(matmul_ceiling(device, precision, size))
                    runs[schedule].append(run())
            ceiling = max(ceilings)
            for schedule, found in runs.items():
                picks, seconds, flops, forwards, tokens = min(found, key=lambda run: run[1])
                each = seconds / len(picks)
                base = base or (each, flops / len(picks))
                agree = sum(
                    a == b
                    for mine, theirs in zip(picks, reference.get(objective, picks), strict=False)
                    for a, b in zip(mine, theirs, strict=True)
                ) / sum(map(len, picks[: len(reference.get(objective, picks))]))
                line = {
                    "precision": precision,
                    "objective": objective,
                    "schedule": schedule,
                    "seconds/image": round(each, 3),
                    "of": " ".join(f"{run[1] / len(picks):.1f}" for run in found),
                    "speed-up": round(base[0] / each, 2),
                    "FLOP ratio": round(base[1] / (flops / len(picks)), 2),
                    "forwards/image": forwards // len(picks),
                    "token-forwards/image": tokens // len(picks),
                    "GFLOP/image": round(flops / len(picks) / 1e9, 1),
                    "TFLOP/s": round(flops / seconds / 1e12, 4),
                    "matmul TFLOP/s": round(ceiling / 1e12, 4),
                    "share of ceiling": round(flops / seconds / ceiling, 3),
                    "picks equal to the first": round(agree, 5),
                }
                reference.setdefault(objective, picks)
                if len(picks) > len(reference[objective]):
                    reference[objective] = (
                        picks if precision == given.precision[0] else reference[objective]
                    )
                figures.append(line)
                print("  ".join(f"{k} {v}" for k, v in line.items()), flush=True)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
