"""Train an evidential head on a frozen model's features: how sure a model may be of an image.

Prints loss, accuracy and mean uncertainty on a held-out share of the labelled images. The file
holds `weight` (K, D) and `bias` (K,), its metadata scale, classes and the hash of the model's
weights. A linear head extrapolates: images unlike all it was trained on may get much evidence.

    python -m jobs.evidential dataset.name=mine dataset.shards=/data/train-000000.tar
    python -m jobs.evidential model=timm model.name=resnet18 training.scale=5 ...
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING

from pipeline import UsageError
from pipeline.build import dataset, part
from pipeline.config import entry_point
from pipeline.config.limits import above, at_least, inside, setting
from pipeline.experiments.evidential import Training, split, uncertainty
from pipeline.experiments.features import labelled
from pipeline.rows import Storage


@dataclass
class TrainingConfig:
    """How the head is trained: see conf/evidential.yaml."""

    epochs: int = setting(50, at_least(1))
    batch: int = setting(256, at_least(1))
    rate: float = setting(1e-2, above(0))
    scale: float = setting(1.0, above(0))
    annealing: int = setting(10, at_least(1))


@dataclass
class EvidentialConfig:
    """Settings: see conf/evidential.yaml."""

    out: str = MISSING
    dataset: Any = MISSING
    model: Any = MISSING
    training: TrainingConfig = field(default_factory=TrainingConfig)
    held_out: float = setting(0.2, inside(0, 1))
    seed: int = setting(0, at_least(0))
    plugins: list[str] = field(default_factory=list)


@entry_point("evidential", EvidentialConfig)
def main(settings: dict[str, Any]) -> None:
    """Compute features, train, tell, write."""
    out, seed = Path(settings["out"]), settings["seed"]
    if out.suffix != ".safetensors":
        raise UsageError(f"out={out}: give the path of a .safetensors file")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = part(settings, "model").load(device, plugins=settings["plugins"])
    features_MD, labels_M, left_out = labelled(model, dataset(settings), model.encode)
    classes = int(labels_M.max()) + 1
    train, test = split(len(labels_M), held_out=settings["held_out"], seed=seed)
    training = Training(seed=seed, **settings["training"])
    head, losses = training.fit(features_MD[train], labels_M[train], max(2, classes))
    Storage(str(out.parent)).write(str(out), head.to_bytes(model.weights_hash))
    alpha_BK = head.alpha(features_MD[test])
    right_B, doubt_B = alpha_BK.argmax(1) == labels_M[test], uncertainty(alpha_BK)
    print(
        f"{len(labels_M)} images of {classes} classes, {left_out} left out; loss {losses[-1]:.3f}"
    )
    print(f"held out: {len(test)} images, accuracy {right_B.double().mean():.1%}")
    for name, chosen in (("all", right_B | True), ("right", right_B), ("wrong", ~right_B)):
        if chosen.any():
            print(f"mean uncertainty, {name}: {doubt_B[chosen].mean():.3f}")
    print(out)


if __name__ == "__main__":
    main()
