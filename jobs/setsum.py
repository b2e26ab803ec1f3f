"""Visual Set-Sum (MoXI, Fig. 2): train the classifier, explain composites, plot the accuracies.

Trains a classifier of 2 x 2 composites of digits, plays MoXI and its baselines on unseen ones, and
plots the accuracy of partial composites into <out>/setsum.png. The same command again makes only
what is missing.

    python -m jobs.setsum out=runs/setsum
    python -m jobs.setsum out=runs/setsum masking=zero
    python -m jobs.setsum out=runs/plain training.softness=0
    python -m jobs.setsum out=runs/blanked training.blanking=true
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jobs.evaluate import EvaluateConfig
from pipeline import studies, workers
from pipeline.config import entry_point, record
from pipeline.config.limits import above, at_least, inside, setting
from pipeline.experiments.setsum import digits, figure
from pipeline.experiments.setsum.train import Training, accuracy, checkpoint
from pipeline.packing import pack
from pipeline.packing.plan import planned
from pipeline.rows import RunDir
from pipeline.rows.storage import Storage
from pipeline.studies.curves.rows import CURVES


@dataclass
class CompositesConfig:
    """Composites of digits: see conf/setsum.yaml."""

    test: int = setting(2000, at_least(1))
    test_share: float = setting(0.2, inside(0, 1))


@dataclass
class TrainingConfig:
    """How the classifier is trained: see conf/setsum.yaml."""

    steps: int = setting(3500, at_least(1))
    batch: int = setting(128, at_least(1))
    rate: float = setting(1e-3, above(0))
    weight_decay: float = setting(0.05, at_least(0))
    softness: float = setting(1.0, at_least(0))
    blanking: bool = True


@dataclass
class SetSumConfig(EvaluateConfig):
    """Settings: those of an evaluation, and what it stands on."""

    seed: int = setting(0, at_least(0))
    composites: CompositesConfig = field(default_factory=CompositesConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    resamples: int = setting(2000, at_least(1))
    confidence: float = setting(0.95, inside(0, 1))


@entry_point("setsum", SetSumConfig)
def main(settings: dict[str, Any]) -> None:
    """Make what is missing, print the table and draw the figure."""
    run = RunDir(settings["out"], CURVES)
    seed, composites = settings["seed"], settings["composites"]
    share, model = composites["test_share"], settings["model"]
    train, test = digits.split(test_share=share, seed=seed)
    images_nHW, digits_n4 = test.composites(composites["test"], np.random.default_rng([seed, 2]))
    vit = checkpoint(
        Path(model["weights"]),
        Training(seed=seed, **settings["training"]),
        train,
        width=model["width"],
        depth=model["depth"],
        test_share=share,
    )
    labels_n = digits.set_sum(digits_n4)
    correct = accuracy(vit, images_nHW, labels_n)
    print(f"test accuracy {correct:.1%} on {len(labels_n)} composites of {len(test)} unseen digits")
    plan = planned(digits.Composites(images_nHW, digits_n4), name="setsum")
    pack(plan, Storage(run.path("composites")), source={"seed": seed, **composites})
    outcome = workers.run("curves", settings, accepted=record)
    if outcome.computed:
        rate = outcome.counters.forwards / outcome.seconds
        print(f"{outcome.computed} composites in {outcome.seconds:.0f} s, {rate:.0f} forwards/s")
    keys, curves = figure.curves(run.read(), studies.build("curves", settings).fingerprints)
    found = figure.result(
        curves,
        digits_n4[[int(key) for key in keys]],
        resamples=settings["resamples"],
        confidence=settings["confidence"],
    )
    print(f"insertion over the {len(keys)} composites classified correctly")
    print(figure.table(found))
    print(f"figure: {figure.draw(run, found)}")


if __name__ == "__main__":
    main()
