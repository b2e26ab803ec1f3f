"""Print what jobs.evaluate would take with the same settings; nothing is written.

Images, forwards, device hours from a few timed images, the memory of the largest batch beyond the
model, and bytes of output, method by method.

    python -m jobs.plan experiment=quickstart
"""

from dataclasses import dataclass
from typing import Any

import torch

from jobs.evaluate import EvaluateConfig
from pipeline import plan
from pipeline.config import entry_point
from pipeline.config.limits import at_least, setting
from pipeline.studies.curves.build import build
from pipeline.studies.curves.orders import located


@dataclass
class PlanConfig(EvaluateConfig):
    """Settings: those of jobs.evaluate, and how many images are timed."""

    timed_images: int = setting(4, at_least(1))


@entry_point("plan", PlanConfig)
def main(settings: dict[str, Any]) -> None:
    """Time a few images on this machine's device; nothing is written."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    evaluation = build(located(settings), device)
    refs = list(evaluation.data.index())
    plans = plan.plan(evaluation, refs, timed_images=settings["timed_images"])
    print(f"{settings['dataset']['name']}: {len(refs)} images; one {device}, timed on this machine")
    print(f"{'method':18} {'forwards':>16} {'device hours':>13} {'peak':>11} {'output':>10}")
    for line in plans:
        print(
            f"{line.method:18} {line.forwards:16,} {line.device_hours:13.3f} "
            f"{line.peak_bytes / 1e6:8.0f} MB {line.bytes / 1e6:7.2f} MB"
        )
    total = sum(line.device_hours for line in plans)
    print(f"{'in all':18} {sum(p.forwards for p in plans):16,} {total:13.3f}")


if __name__ == "__main__":
    main()
