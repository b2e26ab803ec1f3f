"""Verified precision beside fp32: whether whole orders are equal, and what is computed again.

    python -m benchmarks.verified --shards 'data/imagenet-*.tar' --images 8 --model model.json \
        --grid 7 --masking zero

Images and `--model` as in `benchmarks.screened`; on a CPU reduced precision is simulated (weights
and layers' outputs rounded to bf16), so forwards tell what it would take, and seconds nothing.
"""

import numpy as np
import torch
from torch import Tensor

from benchmarks.screened import asked, labelled, named, network
from pipeline.api.presets import preset
from pipeline.engine import Engine
from pipeline.game.arena import Arena
from pipeline.masking import Masking
from pipeline.methods import Attribution
from pipeline.models import Model
from pipeline.players import View
from pipeline.players.patch_grid import PatchGrid


def main() -> None:
    methods = ["moxi_insertion", "moxi_deletion"]
    parser = asked(__doc__, images=4, masking="zero", methods=methods)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    made = network(options.model)
    models = [made.load(options.device, precision) for precision in ("fp32", "verified")]
    masking, equal, again, values = preset("masking", options.masking), [], [], []
    for key, image_CHW, target in labelled(models[0], options.shards, options.images):
        for name in options.methods:
            exact, found = (
                searched(model, image_CHW, target, name, masking, options.grid) for model in models
            )
            if found.details is None or "recomputed" not in found.details:
                raise SystemExit(f"--methods {name}: verified precision serves greedy search alone")
            assert exact.path is not None and found.path is not None
            off = (exact.path.value_C - found.path.value_C).abs().max()
            equal.append(exact.order == found.order)
            again.append(found.details["recomputed"])
            values.append(float(off))
            same = "equal" if equal[-1] else "DIFFERS"
            price = f"{found.evaluations:,} forwards for {exact.evaluations:,}"
            print(f"{key} {name}: {same}, {found.details}, {price}", flush=True)
    low, middle, high = np.quantile(again, [0, 0.5, 1])
    worst = max((off for off, same in zip(values, equal, strict=True) if same), default=np.nan)
    print(f"{sum(equal)} of {len(equal)} orders equal, values along them within {worst:.1g}")
    print(f"share computed again: {middle:.2f} ({low:.2f} to {high:.2f})")


def searched(
    model: Model, image_CHW: Tensor, target: int, name: str, masking: Masking, grid: int
) -> Attribution:
    """A method's search of one image."""

    def task():
        regions_HW = PatchGrid(grid=grid).cut(*model.input_hw)
        arena = Arena(model, View(image_CHW, model.preprocessing), regions_HW, "")
        yield from arena.meet(masking, target)
        game = yield from arena.open(masking)
        return (yield from arena.play(named(name).explain(game), masking))[0]

    (found,) = Engine(model).run([task()], in_flight=1)
    (one,) = found.values()
    return one


if __name__ == "__main__":
    main()
