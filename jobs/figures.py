"""Figures for a paper from a run's curves.parquet: PDF, SVG and PNG in <out>/figures.

Each objective is a column wide, both together two columns; tables are in <out>/tables.

    python -m jobs.figures out=runs/mine
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline import UsageError
from pipeline.config import entry_point
from pipeline.config.limits import above, at_least, setting
from pipeline.report import curves, paper
from pipeline.rows import Storage


@dataclass
class FiguresConfig:
    """Settings: see conf/figures.yaml."""

    out: str = MISSING
    quantities: list[str] = field(default_factory=list)
    subset: str = "all"
    formats: list[str] = field(default_factory=list)
    single: float = setting(3.25, above(0))
    double: float = setting(6.75, above(0))
    dpi: int = setting(300, at_least(1))


@entry_point("figures", FiguresConfig)
def main(settings: dict[str, Any]) -> None:
    """Draws what there is of what is asked for."""
    check("quantities", settings["quantities"], paper.SAID)
    check("formats", settings["formats"], paper.UNDATED)
    run = Storage(settings["out"])
    every = curves.load(run)
    known = sorted({curve.subset for curve in every})
    if settings["subset"] not in known:
        raise UsageError(f"subset={settings['subset']}: the run has curves of {', '.join(known)}")
    wanted = [
        curve
        for curve in every
        if curve.subset == settings["subset"] and curve.quantity in settings["quantities"]
    ]
    for name, figure in paper.drawn(wanted, settings["single"], settings["double"]):
        for extension, content in paper.files(figure, settings["formats"], settings["dpi"]):
            run.write(run.path("figures", f"{name}.{extension}"), content)
            print(run.path("figures", f"{name}.{extension}"))


def check(name: str, given: list[str], known: Any) -> None:
    """Raise UsageError for what nobody can draw."""
    for word in given:
        if word not in known:
            raise UsageError(f"{name}: {word} is none of {', '.join(known)}")
    if not given:
        raise UsageError(f"{name} is empty: give some of {', '.join(known)}")


if __name__ == "__main__":
    main()
