"""Mask optimisation (base, F-TC, F-NTC): one at a time, in batches, three variants in one call.

    python -m benchmarks.undesirable                       # two cores, 224 x 224
    python -m benchmarks.undesirable --size 64             # small inputs
    python -m benchmarks.undesirable --device cuda --images 128 --steps 200

A unit is an image with all three variants. One at a time runs each image and variant by itself, and
is not filled up to the rows that a batch has at least; batched runs each variant over all images;
three in one runs images and variants together. Schedules take turns, the best time of each counts.
Needs torch, timm and numpy only; weights are random, speed does not depend on them.
"""

import argparse
import time

import timm
import torch

from pipeline.engine.device import keep_freed_memory
from pipeline.methods import undesirable
from pipeline.methods.undesirable import Undesirable, optimise
from pipeline.models import Model

ANCHORS = ("none", "others", "target")


def load(name: str, size: int, device: torch.device) -> Model:
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False).eval().requires_grad_(False)
    preprocessing = {"input_size": (3, size, size), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    module = module.to(device).to(memory_format=torch.channels_last)
    return Model(module=module, preprocessing=preprocessing, device=device)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--batch", type=int, help="rows of a batch; default: all that there are")
    parser.add_argument("--steps", type=int, default=20, help="of 200; times scale with them")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cpu":
        keep_freed_memory()
    model = load(given.model, given.size, device)
    pictures = torch.randn(given.images, 3, given.size, given.size)
    pictures = torch.nn.functional.avg_pool2d(pictures, 9, 1, 4).to(device)

    def run(rows: list[tuple[int, str]], batch: int, fewest: int) -> float:
        undesirable.FEWEST = fewest
        start = time.perf_counter()
        for part in (rows[i : i + batch] for i in range(0, len(rows), batch)):
            images_BCHW = pictures[[i for i, _ in part]]
            variants = [Undesirable(anchor=anchor, steps=given.steps) for _, anchor in part]
            found = optimise(model, images_BCHW, [0] * len(part), variants, [0] * len(part))
            found.final_B.sum().item()  # waits for the device
        return time.perf_counter() - start

    every = [(i, anchor) for i in range(given.images) for anchor in ANCHORS]
    apart = sorted(every, key=lambda row: ANCHORS.index(row[1]))
    batch, fewest = given.batch or len(every), undesirable.FEWEST
    schedules = {
        "one at a time": lambda: run(every, 1, 1),
        "batched": lambda: run(apart, min(batch, given.images), fewest),
        "three variants in one call": lambda: run(every, batch, fewest),
    }
    run(every[:3], 3, fewest)  # warm up
    best = dict.fromkeys(schedules, float("inf"))
    for _ in range(given.repeats):
        for name, schedule in schedules.items():
            best[name] = min(best[name], schedule())
    print(
        f"{given.model}, {given.size} x {given.size}, {given.images} images, {given.steps} steps, "
        f"{device.type} ({torch.get_num_threads()} threads), torch {torch.__version__}"
    )
    for name, seconds in best.items():
        rate = 60 * given.images / (seconds * 200 / given.steps)
        speed_up = best["one at a time"] / seconds
        print(f"{name:28} {rate:8.1f} images/minute at 200 steps   {speed_up:5.2f}x")


if __name__ == "__main__":
    main()
