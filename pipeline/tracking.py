"""W&B, and the only place that imports it: a short run per evaluation and per aggregation.

Offline unless told otherwise. It comes last and never fails a run: results are on disk before.
"""

import json
import logging
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import wandb

from pipeline.aggregate import Aggregate, completed
from pipeline.results import CURVES, Run
from pipeline.undesirable.aggregate import MaskAggregate
from pipeline.undesirable.evaluate import MASKS
from pipeline.workers import Report

logger = logging.getLogger(__name__)


def log_evaluation(settings: Mapping[str, Any], report: Report) -> None:
    """One run with the configuration and what the evaluation spent; its id is kept in <out>."""

    def log(run: Any) -> None:
        run.summary.update(
            {
                "images": report.images,
                "computed": report.computed,
                "failed_rows": report.failed_rows,
                "seconds": report.seconds,
                **vars(report.counters),
            }
        )
        place = Run(settings["out"])
        place.write(place.path("wandb-runs", f"{run.id}.json"), json.dumps({"id": run.id}).encode())

    _tracked(settings, "evaluate", dict(settings), log)


def log_aggregation(
    settings: Mapping[str, Any], found: Aggregate | None, masks: MaskAggregate | None
) -> None:
    """Curves as charts over `fraction`; AUCs and phi with intervals as summary; tables of both."""
    place = Run(settings["out"])
    folder = place.path("wandb-runs")
    runs = [] if not place.fs.exists(folder) else place.fs.ls(folder, detail=False)
    config = {
        "aggregate": dict(settings),
        "evaluation_runs": sorted(Path(name).stem for name in runs),
        "evaluations": [
            made["config"]
            for kind, there in ((CURVES, found), (MASKS, masks))
            if there
            for made in _configs(Run(settings["out"], kind))
        ],
    }

    def log(run: Any) -> None:
        if found:
            _log_curves(run, found)
        if masks:
            _log_masks(run, masks)
        results = wandb.Artifact(_safe(f"results-{Path(settings['out']).name}"), type="results")
        location = str(Path(settings["out"]).resolve()) if place.is_local else settings["out"]
        prefix = "file://" if place.is_local else ""
        for kind, there in ((CURVES, found), (MASKS, masks)):
            if there:
                results.add_reference(f"{prefix}{location}/{kind.folder}", checksum=False)
        run.log_artifact(results)

    _tracked(settings, "aggregate", config, log)


def _log_curves(run: Any, found: Aggregate) -> None:
    run.define_metric("fraction")
    run.define_metric("curve/*", step_metric="fraction")
    for i, fraction in enumerate(found.groups[0].fraction_G):
        points = {
            f"curve/{name}/{y}{suffix}": float(getattr(getattr(group, y), array)[i])
            for name, group in _named(found)
            for y in ("probability", "top1")
            for suffix, array in (("", "mean_G"), ("_low", "low_G"), ("_high", "high_G"))
        }
        run.log({"fraction": float(fraction), **points})
    run.log({"summary": _table([group.summary for group in found.groups])})
    for objective in ("insertion", "deletion"):
        chosen = [(n, g) for n, g in _named(found) if g.summary["objective"] == objective]
        if chosen:
            chart = wandb.plot.line_series(
                xs=chosen[0][1].fraction_G.tolist(),
                ys=[np.nan_to_num(g.probability.mean_G).tolist() for _, g in chosen],
                keys=[n for n, _ in chosen],
                title=f"{objective}: probability of the target",
                xname="fraction of pixels",
            )
            run.log({f"overview/{objective}": chart})
    for name, group in _named(found):
        for column in ("auc_probability", "auc_top1"):
            for suffix in ("", "_low", "_high"):
                run.summary[f"{name}/{column}{suffix}"] = group.summary[column + suffix]


def _log_masks(run: Any, masks: MaskAggregate) -> None:
    good = [group.summary for group in masks.groups if group.summary["n"]]
    if good:
        run.log({"undesirable": _table(good)})
    for summary in good:
        name = f"{summary['title']}/{summary['model']}"
        for column in ("phi", "phi_ratio", "undesirable"):
            for suffix in ("", "_low", "_high"):
                run.summary[f"{name}/{column}{suffix}"] = summary[column + suffix]


def _table(summaries: list[dict[str, Any]]) -> wandb.Table:
    rows = completed(summaries)
    return wandb.Table(columns=list[Any](rows[0]), data=[list(row.values()) for row in rows])


def _tracked(
    settings: Mapping[str, Any], kind: str, config: dict[str, Any], log: Callable[[Any], None]
) -> None:
    tracking = settings["tracking"]
    place = Run(settings["out"])
    folder = place.path() if place.is_local else tempfile.mkdtemp(prefix="wandb-")
    name = Path(settings["out"]).name
    run = None
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            mode=tracking["mode"],
            project=tracking["project"],
            entity=tracking["entity"],
            group=tracking["group"] or name,
            name=f"{name}-{kind}",
            job_type=kind,
            tags=list(tracking["tags"]),
            config=config,
            dir=folder,
            settings=wandb.Settings(silent=True, console="off"),
        )
        log(run)
        run.finish()
    except Exception as error:
        logger.warning("W&B: nothing tracked, results are complete on disk: %s", error)
        if run is not None:
            run.finish(exit_code=1)


def _configs(place: Run) -> list[dict[str, Any]]:
    """What the parts say of how they were made, each way once."""
    return list({json.dumps(m["fingerprints"]): m for m in place.metadata()}.values())


def _named(found: Aggregate) -> list[tuple[str, Any]]:
    """Groups under the shortest names that tell them apart."""
    names = []
    varied = [
        k
        for k in ("dataset", "model", "players", "masking", "curve_masking")
        if len({g.summary[k] for g in found.groups}) > 1
    ]
    for group in found.groups:
        parts = [group.summary[k] for k in ("objective", "method", *varied)]
        names.append("/".join(map(str, parts)))
    repeated = {name for name in names if names.count(name) > 1}
    return [
        (f"{name}/{group.summary['fingerprint']}" if name in repeated else name, group)
        for name, group in zip(names, found.groups, strict=True)
    ]


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)
