"""Pack images as WebDataset tars, with labels, splits, boxes and what else is known of them.

The same command again does what is left after whatever stopped it; the tars are the same each time.

    python -m jobs.pack images=/data/photographs dataset.name=photographs
    python -m jobs.pack images=/data/pets dataset.name=pets source=image_folder
    python -m jobs.pack dataset=cub images=/data/CUB_200_2011
    python -m jobs.pack dataset=celeba images=/data/celeba source.target=Smiling
    python -m jobs.pack dataset=vggface2 images=/data/VGG-Face2/data
    python -m jobs.pack dataset=imagenet images=/data/ILSVRC2012 \\
        source.truth=ILSVRC2012_validation_ground_truth.txt source.synsets=meta.mat
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING
from tqdm import tqdm

from pipeline.components import component
from pipeline.config import entry_point
from pipeline.config.limits import above, at_least, directory, setting
from pipeline.packing import pack
from pipeline.packing.plan import planned
from pipeline.rows.storage import Storage

SECONDS_PER_LINE = 10.0
"""Between two lines about progress where there is no terminal."""


@dataclass
class PackConfig:
    """Settings: see conf/pack.yaml."""

    images: str = MISSING
    out: str = setting(MISSING, directory())
    dataset: Any = MISSING
    source: Any = MISSING
    shard_mb: float = setting(128.0, above(0))
    samples_per_shard: int | None = setting(None, at_least(1))
    workers: int = setting(4, at_least(1))
    plugins: list[str] = field(default_factory=list)


@entry_point("pack", PackConfig)
def main(settings: dict[str, Any]) -> None:
    """Look at all images, then write the tars that are missing."""
    reader = component(settings["source"], "source", settings["plugins"])
    with _progress("looked at") as told:
        plan = planned(
            reader,
            name=settings["dataset"]["name"],
            shard_mb=settings["shard_mb"],
            samples_per_shard=settings["samples_per_shard"],
            told=told,
        )
    out = Storage(settings["out"])
    with _progress("packed", plan.images) as told:
        held = pack(plan, out, source=settings["source"], workers=settings["workers"], told=told)
    for split, of in held["splits"].items():
        boxes = f", {of['boxes']:,} with boxes" if of["boxes"] else ""
        classes = f" of {len(of['classes']):,} classes" if of["classes"] else ""
        print(f"{split or 'no splits'}: {of['samples']:,} images{classes}{boxes}")
    packed, size = (sum(shard[name] for shard in held["shards"]) for name in ("samples", "size"))
    tars = f"{len(held['shards']):,} tars of {size / 1e6:,.1f} MB"
    print(f"{plan.images:,} images expected, {packed:,} packed, 0 duplicates; {tars}: {out.out}")
    print(f"next: python -m jobs.evaluate dataset.name={plan.name} dataset.shards={out.out} ...")


@contextmanager
def _progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar with the time to go on a terminal, else a line now and then."""
    started = said = time.monotonic()
    done = 0

    def told(images: int) -> None:
        nonlocal done, said
        done += images
        bar.update(images)
        now = time.monotonic()
        if bar.disable and now - said >= SECONDS_PER_LINE:
            said = now
            left = (total - done) * (now - started) / done if total else None
            to_go = "" if left is None else f" of {total:,}, {tqdm.format_interval(left)} to go"
            print(f"{what} {done:,} images{to_go}", file=sys.stderr, flush=True)

    with tqdm(desc=what, total=total, unit=" images", disable=None) as bar:
        yield told


if __name__ == "__main__":
    main()
