"""Screened search beside exact greedy search and its cheaper rivals: area lost against cost.

    python -m benchmarks.screened --shards 'data/imagenet-*.tar' --images 24 --out runs/screened \
        --model model.json --grid 7

`--model`: a JSON file, {"_target_": "pipeline.models.dual_encoder.DualEncoder", "name": ...}, with
settings of the class; the demo's network without. Images that the model gets wrong are left out
where they have a label. Methods are presets by name, or a preset with settings:
"moxi_screened(search.risk=0.03)". All are judged on the curve of their own objective, as a mean
over steps, in log-odds' probability. Seconds are those of one process with one image in flight.
What lies in `out` is not computed again: a longer run goes on where a shorter one ended.
"""

import argparse
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from torch import Tensor

from pipeline.api.presets import CONF, preset
from pipeline.components import component
from pipeline.data.images import decode
from pipeline.data.shards import Shards
from pipeline.engine import Engine
from pipeline.game.arena import Arena, Turn
from pipeline.masking import Masking
from pipeline.methods import Method
from pipeline.models import Model
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid
from pipeline.statistics import intervals

METHODS = ("moxi_insertion", "moxi_screened", "moxi_stale_scope", "moxi_phase_window")
COLUMNS = ("auc", "forwards", "tokens", "seconds")


def main() -> None:
    parser = asked(__doc__, images=24, masking="token_drop", methods=METHODS)
    parser.add_argument("--share", type=float, default=0.2, help="of images that may lose more")
    parser.add_argument("--out", default="runs/screened")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = network(options.model).load()
    images = list(labelled(model, options.shards, options.images))
    methods = {name: named(name) for name in options.methods}
    out = Path(options.out)
    rows = measured(model, images, methods, preset("masking", options.masking), options.grid, out)
    text = "\n".join([table(rows), "", promised(rows, options.share)])
    print(text)
    (out / "table.txt").write_text(text + "\n")
    pareto(rows, out / "pareto.png")


def asked(doc: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """What benchmarks of searches ask for: images, a network, players and methods."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--shards", default="data/demo/demo-*.tar")
    parser.add_argument("--images", type=int)
    parser.add_argument("--model", help="a JSON file")
    parser.add_argument("--grid", type=int, default=7)
    parser.add_argument("--masking")
    parser.add_argument("--methods", nargs="+", help="the exact one first")
    parser.set_defaults(**defaults)
    return parser


def network(path: str | None) -> Any:
    """The component of a JSON file, the demo's without; its `load` makes the model."""
    if path is None:
        return preset("model", "efficientnet_lite0")
    return component(json.loads(Path(path).read_text()))


def named(name: str) -> Method:
    """The method of a preset, its settings changed: "preset(search.risk=0.03)"."""
    base, changes = re.fullmatch(r"(\w+)(?:\((.*)\))?", name).groups()  # type: ignore[union-attr]
    node = yaml.safe_load((CONF / "methods" / f"{base}.yaml").read_text())[base]
    for change in filter(None, (changes or "").split(",")):
        path, given = change.strip().split("=")
        *parents, last = path.split(".")
        place = node
        for parent in parents:
            place = place[parent]
        place[last] = yaml.safe_load(given)
    return component(node)


def labelled(model: Model, shards: str, count: int) -> Iterator[tuple[str, Tensor, int]]:
    """Key, image and class of images drawn at random that the model gets right; ends the benchmark
    where there are none."""
    data = Shards(name="images", shards=shards)
    every = list(data.index())
    wanted = count
    for place in np.random.default_rng(0).permutation(len(every)):
        if not count:
            return
        sample = data.read(every[place])
        image_CHW = model.transform(decode(sample.encoded))
        with torch.inference_mode():
            found = int(model.logits(image_CHW[None]).argmax())
        if sample.label in (None, found):
            count -= 1
            yield f"{every[place].shard}/{every[place].key}", image_CHW, found
    if count == wanted:
        raise SystemExit(f"--shards {shards}: the model gets none of these images right")


def measured(
    model: Model,
    images: list[tuple[str, Tensor, int]],
    methods: dict[str, Method],
    masking: Masking,
    grid: int,
    out: Path,
) -> dict[str, dict[str, dict[str, float]]]:
    """COLUMNS of each method and image, kept in `out` as soon as they are known. Methods take turns
    at an image, so that a busy hour wrongs none of them."""
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "rows.json"
    rows = json.loads(kept.read_text()) if kept.exists() else {}
    regions_HW = PatchGrid(grid=grid).cut(*model.input_hw)
    for key, image_CHW, target in images:
        for name, method in methods.items():
            if key in rows.setdefault(name, {}):
                continue
            engine, start = Engine(model), time.process_time()
            arena = Arena(model, View(image_CHW, model.preprocessing), regions_HW, key)
            (row,) = engine.run([explained(arena, target, method, masking)], in_flight=1)
            row["seconds"] = time.process_time() - start
            rows[name][key] = row
            kept.write_text(json.dumps(rows))
            print(name, key, *(f"{column} {row[column]:.4g}" for column in COLUMNS), flush=True)
    keys = [key for key, _, _ in images]
    return {name: {key: rows[name][key] for key in keys} for name in methods}


def explained(arena: Arena, target: int, method: Method, masking: Masking) -> Turn[dict[str, Any]]:
    """A row: the area is a mean over steps, both ends included; ends are not counted as cost. Where
    the search stopped, the rest of its curve is as good as can be: what others lose to it is more
    than they would to the whole."""
    yield from arena.meet(masking, target)
    game = yield from arena.open(masking)
    found, bill = yield from arena.play(method.explain(game), masking)
    ((objective, one),) = found.items()
    assert one.path is not None
    ends = game.ends.probability_C.numpy()
    if objective == "deletion":
        ends = ends[::-1]
    path = one.path.probability_C.numpy()[: game.n_players - 1]
    beyond = np.full(game.n_players - 1 - len(path), float(objective == "insertion"))
    curve = np.concatenate([ends[:1], path, beyond, ends[1:]])
    return {
        "auc": float(np.trapezoid(curve, np.linspace(0, 1, len(curve)))),
        "gain": 1 if objective == "insertion" else -1,
        "forwards": one.evaluations,
        "tokens": bill.tokens,
        "curve": curve.tolist(),
    }


def lost(rows: dict, name: str) -> np.ndarray:
    """Area that a method loses on each image (I,), against the first of its objective."""
    found = rows[name].values()
    exact = next(many for many in rows.values() if _objective(many) == _objective(rows[name]))
    pairs = zip(exact.values(), found, strict=True)
    return np.array([one["gain"] * (best["auc"] - one["auc"]) for best, one in pairs])


def _objective(many: dict) -> int:
    return next(iter(many.values()))["gain"]


def table(rows: dict) -> str:
    """Means over images; paired differences with 95 % intervals."""
    lines = [f"{len(next(iter(rows.values())))} images; area lost with its 95 % interval"]
    lines.append(f"{'':46}{'auc':>7}{'lost':>8}{'':18}{'forwards':>9}{'tokens':>11}{'seconds':>9}")
    for name, many in rows.items():
        lost_I = lost(rows, name)
        (low,), (high,) = intervals(lost_I[:, None], resamples=2000, seed=0, confidence=0.95)
        area, *price = (np.mean([row[column] for row in many.values()]) for column in COLUMNS)
        said = f"{lost_I.mean():+.4f} [{low:+.4f}, {high:+.4f}]" if lost_I.any() else ""
        forwards, tokens, seconds = price
        lines.append(
            f"{name:46}{area:7.4f}  {said:26}{forwards:9,.0f}{tokens:11,.0f}{seconds:9.1f}"
        )
    return "\n".join(lines)


def at_most(lost_I: np.ndarray, share: float) -> float:
    """What a new image loses more than with a probability of at most `share`, where it and those of
    lost_I are exchangeable (split conformal prediction); infinite where they are too few."""
    place = int(np.ceil((len(lost_I) + 1) * (1 - share)))
    return float(np.sort(lost_I)[place - 1]) if place <= len(lost_I) else np.inf


def promised(rows: dict, share: float, splits: int = 1000) -> str:
    """What half of the images promises, and the share of the others that lose more."""
    lines = [f"At most {share:.0%} of images are to lose more than stated; half of them say it"]
    rng = np.random.default_rng(0)
    for name in rows:
        lost_I = lost(rows, name)
        if not lost_I.any():
            continue
        stated, more = [], []
        for _ in range(splits):
            mixed_I = rng.permutation(lost_I)
            half = len(mixed_I) // 2
            stated.append(at_most(mixed_I[:half], share))
            more.append((mixed_I[half:] > stated[-1]).mean())
        lines.append(f"{name:46} stated {np.median(stated):.4f}  lose more {np.mean(more):.3f}")
    return "\n".join(lines)


def pareto(rows: dict, path: Path) -> None:
    """Area lost against tokens, a panel an objective."""
    sides = {1: "insertion", -1: "deletion"}
    shown = [gain for gain in sides if any(_objective(many) == gain for many in rows.values())]
    figure = Figure(figsize=(5.5 * len(shown), 5), layout="constrained")
    for gain, axes in zip(shown, figure.subplots(1, len(shown), squeeze=False)[0], strict=True):
        for name, many in rows.items():
            if _objective(many) != gain:
                continue
            lost_I = lost(rows, name)
            price = np.mean([row["tokens"] for row in many.values()])
            error = 1.96 * lost_I.std() / max(len(lost_I) - 1, 1) ** 0.5
            axes.errorbar(price, lost_I.mean(), error, fmt="o", ms=4, capsize=2, label=name)
        axes.axhline(0, color="grey", lw=0.5)
        axes.set(xscale="log", xlabel="token-forwards an image", ylabel="area lost to exact greedy")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.15))
        axes.set_title(f"{sides[gain]}, {len(lost_I)} images", fontsize=9)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
