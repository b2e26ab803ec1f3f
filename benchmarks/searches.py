"""Every search side by side: areas under the curves and what they cost, on the same images.

SLICO superpixels, EfficientNet-Lite0, hidden pixels black; MoXI's score or SMDL's. Prints a table
(means, bootstrap intervals of paired differences from greedy search) and writes it and a plot of
areas against forwards beside the rows. What is in `out` already is not computed again, so that a
longer run goes on where a shorter one ended.

    python -m benchmarks.searches --shards 'data/imagenet-*.tar' --images 50
    python -m benchmarks.searches   # the demo's eight photographs
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from pipeline.api.presets import preset
from pipeline.data.images import decode
from pipeline.data.shards import Shards
from pipeline.engine import Engine
from pipeline.game.arena import Arena, Turn
from pipeline.judges.regions import Regions
from pipeline.masking.black import Black
from pipeline.methods import Method
from pipeline.methods.subset import Subset
from pipeline.players import View
from pipeline.players.slico import Slico
from pipeline.scores.submodular import Submodular
from pipeline.scores.target import Target
from pipeline.searches.backward import Backward
from pipeline.searches.beam import Beam
from pipeline.searches.bidirectional import Bidirectional
from pipeline.searches.greedy import Greedy
from pipeline.searches.joint import Joint
from pipeline.searches.phase_window import PhaseWindow
from pipeline.searches.stale_scope import StaleScope
from pipeline.searches.windowed import Windowed
from pipeline.statistics import intervals

SEARCHES = {
    "greedy": Greedy(),
    "bidirectional": Bidirectional(),
    "stale_scope": StaleScope(),
    "phase_window": PhaseWindow(),
    "windowed 14": Windowed(window=14),
    "joint r=2, a quarter": Joint(share=0.25),
    "joint r=2": Joint(),
    "beam 2": Beam(width=2),
    "beam 4": Beam(width=4),
    "backward": Backward(),
}
SCORES = {"moxi": Target(), "smdl": Submodular()}
COLUMNS = ("insertion", "deletion", "forwards", "tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", default="data/demo/demo-*.tar")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--score", choices=list(SCORES), default="smdl")
    parser.add_argument("--searches", nargs="*", default=list(SEARCHES), choices=list(SEARCHES))
    parser.add_argument("--out", default="runs/searches")
    parser.add_argument("--size", type=int, default=224, help="of the model's input, pixels")
    parser.add_argument("--region", type=int, default=30, help="superpixels' side, pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    title = f"{options.score}-{options.size}-{options.region}"
    kept = out / f"{title}.json"
    rows = json.loads(kept.read_text()) if kept.exists() else {}
    network = preset("model", "efficientnet_lite0")
    size = {"input_size": [3, options.size, options.size]}
    model = replace(network, preprocessing=dict(network.preprocessing) | size).load()
    data = Shards(name="images", shards=options.shards)
    every = list(data.index())
    drawn = np.random.default_rng(0).permutation(len(every))[: options.images]
    refs = [every[i] for i in sorted(drawn)]
    for name in options.searches:
        method = Subset(score=SCORES[options.score], search=SEARCHES[name])
        todo = [ref for ref in refs if _place(ref) not in rows.get(name, {})]
        engine = Engine(model)
        players = Slico(region_size=options.region)
        tasks = (explained(model, data, ref, players, method) for ref in todo)
        for key, row in engine.run(tasks, in_flight=options.in_flight):
            rows.setdefault(name, {})[key] = row
            kept.write_text(json.dumps(rows))
        if todo:
            print(f"{name}: {engine.counters.seconds / len(todo):.1f} s an image", flush=True)
    table(rows, out, title)


def explained(model, data: Shards, ref, players: Slico, method: Method) -> Turn:
    """An image's place and the numbers of COLUMNS."""
    image_CHW = model.transform(decode(data.read(ref).encoded))
    regions_HW = players(View(image_CHW, model.preprocessing))
    arena = Arena(model, View(image_CHW, model.preprocessing), regions_HW, ref.key)
    yield from arena.meet(Black(), None)
    game = yield from arena.open(Black())
    found, bill = yield from arena.play(method.explain(game), Black())
    row = {"forwards": next(iter(found.values())).evaluations, "tokens": bill.tokens}
    for objective in ("insertion", "deletion"):
        one = found.get(objective)
        along = one or next(iter(found.values()))
        if one is None:  # an order of one side is judged on both
            along = replace(along, path=None)
        judged, _ = yield from arena.play(Regions().judge(along, objective, game), Black())
        row[objective] = judged["auc_probability"]
    row["players"] = game.n_players
    return _place(ref), row


def _place(ref) -> str:
    return f"{ref.shard}/{ref.key}"


def table(rows: dict, out: Path, title: str) -> None:
    keys = sorted(set.intersection(*(set(found) for found in rows.values())))
    values = {
        name: np.array([[found[key][c] for c in COLUMNS] for key in keys])
        for name, found in rows.items()
    }
    lines = [
        f"{title}, {len(keys)} images; differences from greedy search with 95 % intervals",
        f"{'search':24}{'insertion':>10}{'':24}{'deletion':>10}{'':24}{'forwards':>9}{'tokens':>11}",
    ]
    for name, found_nC in values.items():
        mean_C = found_nC.mean(0)
        line = f"{name:24}"
        for column in (0, 1):
            difference_n1 = found_nC[:, column : column + 1] - values["greedy"][:, column, None]
            (low,), (high,) = intervals(difference_n1, resamples=2000, seed=0, confidence=0.95)
            said = f"{difference_n1.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
            line += f"{mean_C[column]:>10.4f} {said if name != 'greedy' else '':23}"
        lines.append(f"{line}{mean_C[2]:>9,.0f}{mean_C[3]:>11,.0f}{_front(name, values)}")
    text = "\n".join(lines) + "\n* nothing is better for less (insertion)"
    print(text)
    (out / f"{title}.txt").write_text(text + "\n")
    figure = Figure(figsize=(9, 4), layout="constrained")
    for column, axes in enumerate(figure.subplots(1, 2)):
        for name, found_nC in values.items():
            x, y = found_nC[:, 2].mean(), found_nC[:, column].mean()
            axes.scatter(x, y)
            axes.annotate(name, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
        axes.set(xlabel="forwards an image", ylabel=f"{COLUMNS[column]} AUC", title=title)
        axes.grid(alpha=0.25)
    figure.savefig(out / f"{title}.png", dpi=120)


def _front(name: str, values: dict) -> str:
    """A star where no other search is at least as good for less."""
    area, price = values[name].mean(0)[[0, 2]]
    others = [found.mean(0)[[0, 2]] for other, found in values.items() if other != name]
    return "" if any(a >= area and p <= price for a, p in others) else " *"


if __name__ == "__main__":
    main()
