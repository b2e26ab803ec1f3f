"""Make prototypes of labelled images for a dual encoder: the mean embedding of each class.

Classes are numbered from 0 without gaps. The same settings of the model then classify by the file:

    python -m jobs.prototypes model.name=vit_small_patch14_dinov2 dataset.name=mine \\
        dataset.shards=/data/train-000000.tar out=prototypes.safetensors
    python -m jobs.evaluate model=dual_encoder model.name=vit_small_patch14_dinov2 \\
        model.prototypes=prototypes.safetensors dataset.name=mine ...
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from omegaconf import MISSING

from pipeline import UsageError
from pipeline.build import dataset, part
from pipeline.config import entry_point
from pipeline.experiments.features import labelled
from pipeline.experiments.prototypes import prototypes
from pipeline.models.dual_encoder import DualEncoder
from pipeline.rows import Storage


@dataclass
class PrototypesConfig:
    """Settings: see conf/prototypes.yaml."""

    out: str = MISSING
    dataset: Any = MISSING
    model: Any = MISSING
    centre: bool = True
    plugins: list[str] = field(default_factory=list)


@entry_point("prototypes", PrototypesConfig)
def main(settings: dict[str, Any]) -> None:
    """Embed every labelled image, write the file."""
    spec, out = part(settings, "model"), Path(settings["out"])
    if not isinstance(spec, DualEncoder):
        raise UsageError("model: only a dual encoder has prototypes; choose model=dual_encoder")
    if out.suffix != ".safetensors":
        raise UsageError(f"out={out}: give the path of a .safetensors file")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    embedder = spec.embedder(device, plugins=settings["plugins"])
    found = labelled(embedder, dataset(settings), embedder.logits)
    rows_KD = prototypes(found.features_MD, found.labels_M, centre=settings["centre"])
    content = safetensors.torch.save({"prototypes": rows_KD})
    Storage(str(out.parent)).write(str(out), content)
    count, width = rows_KD.shape
    left = f", {found.left_out} left out" if found.left_out else ""
    print(f"{out}: {count} classes of {width} numbers from {len(found.labels_M)} images{left}")


if __name__ == "__main__":
    main()
