"""Check a model and a data set on a few images before a run; nothing is written.

Prints the softmax's temperature, what maskings leave of the prediction, whether channels or their
normalisation are mistaken, classes against labels. Warnings do not change the exit status.

    python -m jobs.check dataset=demo
    python -m jobs.check model=timm model.name=resnet18 masking=blur dataset=imagenet
"""

from dataclasses import dataclass
from typing import Any

import torch

from jobs.evaluate import EvaluateConfig
from pipeline.build import dataset, part
from pipeline.check import check
from pipeline.config import entry_point
from pipeline.config.limits import at_least, setting


@dataclass
class CheckConfig(EvaluateConfig):
    """Settings: those of jobs.evaluate, and how many images are looked at."""

    images: int = setting(16, at_least(1))


@entry_point("check", CheckConfig)
def main(settings: dict[str, Any]) -> None:
    """Tables and warnings."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision, plugins = settings["engine"]["precision"], settings["plugins"]
    model = part(settings, "model").load(device, precision, plugins)
    data = dataset(settings)
    roles = ("curve_masking",) if settings["orders"] else ("masking", "curve_masking")
    maskings = dict.fromkeys(part(settings, role) for role in roles)
    report = check(model, data, data.index(), maskings=list(maskings), images=settings["images"])
    print(report.text())


if __name__ == "__main__":
    main()
