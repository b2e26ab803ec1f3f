"""LIME, KernelSHAP and RISE: images together on this engine, against captum's image by image.

    python -m benchmarks.perturbations                                # 8 photographs, 1,000 samples
    python -m benchmarks.perturbations --images 2 --samples 100       # a first look
    python -m benchmarks.perturbations --model vit_tiny_patch16_224 --masking token_drop

Same weights, photographs, players, samples, threads; the probability of the predicted class. captum
runs the plain module in a process of its own, with its defaults (a sample a forward; --per-eval);
captum has no RISE, so the loop of its definition stands for it. Its turn comes between two of ours,
of different seeds: their mean counts, and how well their scores agree says what sampling allows.
Weights are random for models that are not in conf/model. CPU seconds are those of all threads.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import isqrt
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import KernelShap as CaptumKernelShap
from captum.attr import Lime as CaptumLime
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.turns import as_workers
from pipeline.api.presets import chosen, preset
from pipeline.data.images import decode
from pipeline.data.packers.demo import Demo
from pipeline.engine import Engine
from pipeline.game.arena import Arena, Turn
from pipeline.masking import Masking
from pipeline.methods import Method
from pipeline.methods.kernel_shap import KernelShap
from pipeline.methods.lime import Lime
from pipeline.methods.rise_players import RisePlayers
from pipeline.models import Model
from pipeline.models.timm import TimmModel, network
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid

METHODS = ("lime", "kernel_shap", "rise")


class Spent(NamedTuple):
    """Seconds since a `now`, by the clock and of this process's threads."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Explaining:
    """What captum is asked for: an image, its class and the player of each pixel."""

    method: str
    image_CHW: np.ndarray
    regions_HW: np.ndarray
    target: int
    samples: int
    per_eval: int
    seed: int


def method(name: str, samples: int, seed: int) -> Method:
    """Ours. captum weighs LIME's samples by the cosine distance of pixels with width 1: where
    hidden pixels are 0, about the distance of coalitions."""
    if name == "lime":
        return Lime(forwards=samples, width=1.0, seed=seed)
    kind = KernelShap if name == "kernel_shap" else RisePlayers
    return kind(forwards=samples, seed=seed)


def source(name: str, size: int | None) -> TimmModel:
    """Where the model's weights come from; `size`: of the input, pixels, None for its own."""
    found = preset("model", name) or TimmModel(name=name, weights="random")
    if size is None:
        return found
    if name.startswith("vit"):  # its positions are learnt for one size
        found = replace(found, kwargs=dict(found.kwargs) | {"img_size": size})
    given = {"input_size": [3, size, size], "crop_pct": 1.0}
    return replace(found, preprocessing=dict(found.preprocessing) | given)


def explained(
    model: Model, image_CHW: Tensor, regions_HW: Tensor, key: str, asked: Method, masking: Masking
) -> Turn[tuple[str, Any]]:
    """An image's place, and its scores and class."""
    arena = Arena(model, View(image_CHW, model.preprocessing), regions_HW, key)
    target, _ = yield from arena.meet(masking, None)
    game = yield from arena.open(masking)
    found, _ = yield from arena.play(asked.explain(game), masking)
    return key, (found["insertion"].scores_N.numpy(), target)


def ours(
    model: Model, images: list[Tensor], regions_HW: Tensor, asked: Method, masking: Masking
) -> tuple[list[Any], Spent]:
    """Scores and class of each image, all of them under way together."""
    start = now()
    engine = Engine(model)
    tasks = (
        explained(model, image_CHW, regions_HW, str(i), asked, masking)
        for i, image_CHW in enumerate(images)
    )
    found = dict(engine.run(tasks, in_flight=len(images)))
    return [found[str(i)] for i in range(len(images))], since(start)


_plain: nn.Module


def start(model: TimmModel, threads: int) -> None:
    """Load the plain module into the process that captum has to itself."""
    global _plain
    torch.set_num_threads(threads)
    _plain = network(model.name, model.weights, match=model.match, kwargs=model.kwargs).eval()
    size = dict(model.preprocessing).get("input_size") or _plain.pretrained_cfg["input_size"]  # type: ignore[index]
    with torch.no_grad():
        _plain(torch.zeros(1, *size))


def probability(x_BCHW: Tensor) -> Tensor:
    return _plain(x_BCHW).softmax(1)


def theirs(one: Explaining) -> tuple[np.ndarray, Spent]:
    """Scores (N,) of one image."""
    x_BCHW = torch.from_numpy(one.image_CHW)[None]
    regions_HW = torch.from_numpy(one.regions_HW)
    torch.manual_seed(one.seed)
    begun = now()
    if one.method == "rise":
        scores_N = loop(x_BCHW, regions_HW, one)
    else:
        explainer = (
            CaptumLime(probability, interpretable_model=SkLearnRidge(alpha=1.0))
            if one.method == "lime"
            else CaptumKernelShap(probability)
        )
        scores_N = explainer.attribute(
            x_BCHW,
            target=one.target,
            feature_mask=regions_HW[None, None],
            n_samples=one.samples,
            perturbations_per_eval=one.per_eval,
            return_input_shape=False,
        )
    return scores_N.flatten().double().numpy(), since(begun)


@torch.no_grad()
def loop(x_BCHW: Tensor, regions_HW: Tensor, one: Explaining) -> Tensor:
    """RISE as it is defined: the mean of f over the random masks that keep a player."""
    n_players = int(regions_HW.max()) + 1
    total_N, count_N = torch.zeros(n_players), torch.zeros(n_players)
    for first in range(0, one.samples, one.per_eval):
        rows = min(one.per_eval, one.samples - first)
        kept_CN = torch.rand(rows, n_players) < 0.5
        value_C = probability(x_BCHW * kept_CN[:, regions_HW][:, None])[:, one.target]
        total_N += value_C @ kept_CN.float()
        count_N += kept_CN.sum(0)
    return total_N / count_N


def now() -> Spent:
    return Spent(time.perf_counter(), time.process_time())


def since(begun: Spent) -> Spent:
    return Spent(*(b - a for a, b in zip(begun, now(), strict=True)))


def row(name: str, pool: ProcessPoolExecutor, model: Model, images: list[Tensor], options) -> str:
    """A method's line of the table."""
    regions_HW = PatchGrid(grid=isqrt(options.players)).cut(*model.input_hw)
    masking, theirs_of = chosen("masking", options.masking), options.captum_images or len(images)
    turns = []
    turns.append(ours(model, images, regions_HW, method(name, options.samples, 0), masking))
    captum = []
    for image_CHW, (_, target) in zip(images[:theirs_of], turns[0][0], strict=False):
        one = Explaining(
            name,
            image_CHW.numpy(),
            regions_HW.numpy(),
            target,
            options.samples,
            options.per_eval,
            2,
        )
        captum.append(pool.submit(theirs, one).result())
    turns.append(ours(model, images, regions_HW, method(name, options.samples, 1), masking))
    mine = [np.mean([spent[k] for _, spent in turns]) / len(images) for k in (0, 1)]
    its = [np.mean([spent[k] for _, spent in captum]) for k in (0, 1)]
    first, second = ([scores_N for scores_N, _ in found] for found, _ in turns)
    alike = np.mean([spearmanr(a, b).statistic for a, (b, _) in zip(first, captum, strict=False)])
    allowed = np.mean([spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)])
    return (
        f"{name:12}{mine[0]:9.2f}{mine[1]:9.2f}{its[0]:9.2f}{its[1]:9.2f}"
        f"{its[0] / mine[0]:8.2f}{its[1] / mine[1]:8.2f}{alike:10.3f}{allowed:12.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--captum-images", type=int, help="captum's turn takes so many of them")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--size", type=int, help="of the model's input, pixels")
    parser.add_argument("--players", type=int, default=49, help="a square: of a grid of patches")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--per-eval", type=int, default=1, help="samples of a forward of captum's")
    parser.add_argument("--model", default="efficientnet_lite0", help="of conf/model, or timm's")
    parser.add_argument("--masking", default="zero", help="of ours; captum sets pixels to 0")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    given = source(options.model, options.size)
    model = given.load()
    files = [Path(str(entry.image)) for entry in Demo().entries()]
    encoded = [file.read_bytes() for file in files[: options.images]]
    images = [model.transform(decode(one)) for one in encoded]
    shared = options.captum_images or len(images)
    print(
        f"{options.model}, {model.input_hw[0]} px, {options.players} players, {options.masking}; "
        f"{len(images)} images of ours, {shared} of captum {version('captum')}'s "
        f"({options.per_eval} a forward), {options.samples} samples, {options.threads} threads; "
        "seconds an image"
    )
    print(
        f"{'method':12}{'ours':>9}{'CPU':>9}{'captum':>9}{'CPU':>9}{'wall x':>8}{'CPU x':>8}"
        f"{'Spearman':>10}{'two seeds':>12}",
        flush=True,
    )
    with ProcessPoolExecutor(
        1, get_context("spawn"), initializer=start, initargs=(given, options.threads)
    ) as pool:
        for name in options.methods:
            print(row(name, pool, model, images, options), flush=True)


if __name__ == "__main__":
    as_workers()
    main()
