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
    with _bar("looked at") as bar:
        plan = planned(
            reader,
            name=settings["dataset"]["name"],
            shard_mb=settings["shard_mb"],
            samples_per_shard=settings["samples_per_shard"],
            told=bar.update,
        )
    out = Storage(settings["out"])
    with _bar("packed", plan.images) as bar:
        held = pack(
            plan, out, source=settings["source"], workers=settings["workers"], told=bar.update
        )
    for split, of in held["splits"].items():
        boxes = f", {of['boxes']:,} with boxes" if of["boxes"] else ""
        classes = f" of {len(of['classes']):,} classes" if of["classes"] else ""
        print(f"{split or 'no splits'}: {of['samples']:,} images{classes}{boxes}")
    packed, size = (sum(shard[name] for shard in held["shards"]) for name in ("samples", "size"))
    tars = f"{len(held['shards']):,} tars of {size / 1e6:,.1f} MB"
    print(f"{plan.images:,} images expected, {packed:,} packed, 0 duplicates; {tars}: {out.out}")
    print(f"next: python -m jobs.evaluate dataset.name={plan.name} dataset.shards={out.out} ...")


def _bar(what: str, total: int | None = None) -> tqdm:
    """A bar with the time to go on a terminal, else a line now and then."""
    lines = not sys.stderr.isatty()
    form = f"{what} {{n_fmt}}/{{total_fmt}} images, {{rate_fmt}}, {{remaining}} to go\n"
    return tqdm(
        desc=what,
        total=total,
        unit=" images",
        mininterval=SECONDS_PER_LINE if lines else 0.1,
        bar_format=form if lines else None,
    )


if __name__ == "__main__":
    main()
