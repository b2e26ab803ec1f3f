"""What composing masked images costs beside running the model on them: one image, 49 superpixels.

SMDL's greedy search, both sides, hidden pixels black; EfficientNet-Lite0, a demo photograph. Prints
the seconds of composing, of the model, and of all else that the search does on the host.

    python -m benchmarks.composing
"""

import argparse
import time

import torch
from torch import Tensor

from pipeline.api.presets import preset
from pipeline.data.images import decode
from pipeline.data.shards import Shards
from pipeline.engine import Engine
from pipeline.game.arena import Arena, Turn
from pipeline.masking.black import Black
from pipeline.masking.pixels import PixelMasking
from pipeline.models import Model
from pipeline.players import View
from pipeline.players.slico import Slico


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, spent = preset("model", "efficientnet_lite0").load(), {"model": 0.0, "masking": 0.0}
    data = Shards(name="demo", shards="data/demo/demo-*.tar")
    image_CHW = model.transform(decode(data.read(next(data.index())).encoded))

    def timed(name, function):
        def call(*arguments) -> Tensor:
            began = time.perf_counter()
            found = function(*arguments)
            spent[name] += time.perf_counter() - began
            return found

        return call

    Model.encode = timed("model", Model.encode)  # type: ignore[method-assign]
    PixelMasking.encode = timed("masking", PixelMasking.encode)  # type: ignore[method-assign]

    def task() -> Turn:
        regions_HW = Slico()(View(image_CHW, model.preprocessing))
        arena = Arena(model, View(image_CHW, model.preprocessing), regions_HW, "")
        yield from arena.meet(Black(), None)
        game = yield from arena.open(Black())
        return (yield from arena.play(preset("methods", "smdl").explain(game), Black()))

    engine, began = Engine(model), time.perf_counter()
    (_,) = engine.run([task()], in_flight=1)
    wall = time.perf_counter() - began
    composing = spent["masking"] - spent["model"]
    rest = wall - spent["masking"]
    print(
        f"{engine.counters.forwards} forwards: model {spent['model']:.2f} s, composing "
        f"{composing:.2f} s ({100 * composing / spent['model']:.1f} %), all else {rest:.2f} s "
        f"({100 * rest / spent['model']:.1f} %)"
    )


if __name__ == "__main__":
    main()
