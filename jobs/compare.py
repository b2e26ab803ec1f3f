"""Compare two runs of the same games: shares of equal orders and picks, differences in AUC.

python -m jobs.evaluate experiment=quickstart out=runs/fp32
python -m jobs.evaluate experiment=quickstart out=runs/bf16 engine.precision=bf16
python -m jobs.compare out=runs/bf16 against=runs/fp32
"""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from pipeline.compare import compare
from pipeline.config import entry_point
from pipeline.report.text import ruled
from pipeline.rows import RunDir
from pipeline.studies.curves.rows import CURVES


@dataclass
class CompareConfig:
    """Settings: see conf/compare.yaml."""

    out: str = MISSING
    against: str = MISSING


@entry_point("compare", CompareConfig)
def main(settings: dict[str, Any]) -> None:
    """A line for each game, method and objective."""
    found = compare(RunDir(settings["out"], CURVES), RunDir(settings["against"], CURVES))
    games = {line.game for line in found.agreements}
    heads = ("rows", "same order", "same picks", "before parting", "mean dAUC", "largest dAUC")
    cells = []
    for line in found.agreements:
        shares = [f"{100 * x:.2f} %" for x in (line.orders, line.picks, line.first)]
        gaps = [f"{gap:.2e}" for gap in (line.auc_mean, line.auc_largest)]
        game = [", ".join(str(x) for x in line.game if x is not None)] if len(games) > 1 else []
        cells.append([*game, line.method, line.objective, f"{line.rows}", *shares, *gaps])
    print(ruled([*(["game"] if len(games) > 1 else []), "method", "objective", *heads], cells))
    for name, alone in zip(("out", "against"), found.alone, strict=True):
        if alone:
            print(f"{name}={settings[name]}: {alone} more rows, which the other run does not hold")


if __name__ == "__main__":
    main()
