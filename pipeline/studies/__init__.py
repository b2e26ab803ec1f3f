"""What a run can be about: each study makes rows of its own kind and says what they mean.

A study is a folder with the same rooms as the others: `build` and `work` make rows, `statistics`
condenses them, `section` shows them, and `study` holds STUDY, which is all that anybody else needs.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import UsageError
from pipeline.models import Model
from pipeline.report import Section
from pipeline.report.tables import Table
from pipeline.rows import Kind, RunDir
from pipeline.statistics import Band
from pipeline.work import Work


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Mean bands of one quantity over a common axis, each under the title of its group."""

    name: str
    quantity: str
    axis: str
    x_G: np.ndarray
    lines: Mapping[str, Band]


@dataclass(frozen=True, kw_only=True)
class Score:
    """A number that rows of one address are compared with others by, and whether a `larger` one is
    better; of n images."""

    fingerprint: str
    name: str
    value: float
    n: int
    larger: bool


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a study found in a run, as everything else takes it: rows of <out>/<name>.parquet, a
    table for the terminal, tables for <out>/tables by name, a section of the report with so many
    photographs, charts and numbers to track; `files`: further <out>/<name>.parquet, None for one
    that shall not be there; `aims`: whether `max` or `min` of a number is best; `samples`: so many
    images as rows of a table, pictures being arrays (H, W, 3) of uint8; `scores`: what cells of a
    sweep are compared by."""

    run: RunDir
    name: str
    summary: Sequence[Mapping[str, Any]]
    table: str
    section: Callable[[int], Section]
    tables: Mapping[str, Table] = field(default_factory=dict)
    charts: Sequence[Chart] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, pa.Table | None] = field(default_factory=dict)
    aims: Mapping[str, str] = field(default_factory=dict)
    samples: Callable[[int], Iterable[Mapping[str, Any]]] = lambda limit: ()
    scores: Sequence[Score] = ()


@dataclass(frozen=True, kw_only=True)
class Study:
    """A kind of rows and how a run's rows of it become findings, given jobs.aggregate's settings.

    `aggregate` raises UsageError for a run without rows to stand on.
    """

    kind: Kind
    aggregate: Callable[[RunDir, Mapping[str, Any]], Findings]


def build(
    study: str, settings: Mapping[str, Any], device: str = "cpu", model: Model | None = None
) -> Work:
    """The work that settings of a study describe; its model, unless it is there, is loaded on
    `device`."""
    made = importlib.import_module(f"{__name__}.{study}.build")
    return made.build(settings, device, model)


def study_of(settings: Mapping[str, Any]) -> str:
    """The study that a job's settings are of: of masks there may be several trials."""
    return "masks" if "trials" in settings else "curves"


def studies() -> list[Study]:
    """Every folder here; they are imported when they are asked for, so that workers stay lean."""
    folders = [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]
    return [importlib.import_module(f"{__name__}.{name}.study").STUDY for name in folders]


def findings(settings: Mapping[str, Any]) -> list[Findings]:
    """What each study finds in settings["out"]. Raises UsageError where no study has rows."""
    found, jobs = [], []
    for study in studies():
        run = RunDir(settings["out"], study.kind)
        jobs.append(study.kind.job)
        if run.sealed():
            found.append(study.aggregate(run, settings))
    if not found:
        raise UsageError(f"out={settings['out']}: no rows there; run {' or '.join(jobs)} first")
    return found
