"""On how many images is it decided that one method is better than another, worse, or as good?

Takes a run's images in random order, and stops where a confidence sequence that may be looked at
after every image excludes the margin, or lies within it; writes <out>/decision.json. Evaluation
itself stops there with until=decided.

    python -m jobs.decide out=runs/pets method=moxi_insertion against=gradcam
    python -m jobs.decide out=runs/pets method=moxi_insertion against=rise margin=0.02 orders=100
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from omegaconf import MISSING

from pipeline.config import entry_point
from pipeline.config.limits import at_least, between, directory, inside, one_of, setting
from pipeline.game import OBJECTIVES
from pipeline.rows import RunDir
from pipeline.statistics.deciding import DECIDABLE, Answers, Question, written
from pipeline.statistics.decision import shuffled
from pipeline.studies.curves.rows import CURVES


@dataclass
class DecideConfig:
    """Settings: see conf/decide.yaml."""

    out: str = setting(MISSING, directory())
    method: str = MISSING
    against: str = MISSING
    objective: str = setting("insertion", one_of(*OBJECTIVES))
    quantity: str = setting("auc_probability", one_of(*DECIDABLE))
    curve_masking: str | None = None
    judge: str | None = None
    margin: float = setting(0.0, between(0, 1))
    alpha: float = setting(0.05, inside(0, 1))
    seed: int = setting(0, at_least(0))
    orders: int = setting(1, at_least(1))


@entry_point("decide", DecideConfig)
def main(settings: dict[str, Any]) -> None:
    """One line; with several orders another one, on how many images each took."""
    run, seed = RunDir(settings["out"], CURVES), settings["seed"]
    names = [name for name in settings if name not in ("out", "seed", "orders")]
    question = Question(**{name: settings[name] for name in names})
    answers = Answers(question=question)
    answers.hear(run.read(question.columns))
    images = answers.images()
    found = answers.decision(shuffled(images, seed))
    said = dict(written(question, seed, answers.failed(images), found))
    print(f"{question.method} against {question.against}, {question.objective}: {found.text()}")
    if settings["orders"] > 1:
        every = [answers.decision(shuffled(images, s)) for s in range(settings["orders"])]
        taken = np.array([one.n for one in every])
        low, middle, high = np.quantile(taken, [0.1, 0.5, 0.9]).tolist()
        counts = {v: sum(one.verdict == v for one in every) for v in {one.verdict for one in every}}
        said["orders"] = {"n": taken.tolist(), "verdicts": {str(v): c for v, c in counts.items()}}
        verdicts = ", ".join(f"{v or 'not decided'} {c}" for v, c in counts.items())
        print(
            f"in {len(every)} random orders: {middle:.0f} images (80 % of orders {low:.0f} to "
            f"{high:.0f}); {verdicts}"
        )
    run.write(run.path("decision.json"), json.dumps(said, indent=1).encode())


if __name__ == "__main__":
    main()
