"""W&B, and the only place that imports it: a short run per evaluation, aggregation, verdict.

Offline unless told otherwise. It comes last and never fails a run: results are on disk before.
"""

import json
import logging
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from pipeline import UsageError
from pipeline.redaction import redacted
from pipeline.rows import RunDir, Storage
from pipeline.statistics import completed
from pipeline.studies import Chart, Findings
from pipeline.workers import Outcome

logger = logging.getLogger(__name__)


def check(settings: Mapping[str, Any]) -> None:
    """Raise UsageError where W&B is wanted online and nobody is logged in; asks no server."""
    if settings["tracking"]["mode"] == "online" and not wandb.api.api_key:
        raise UsageError(
            "tracking=online: there is no W&B key; run wandb login, set WANDB_API_KEY, or give "
            "tracking=offline (wandb sync uploads later)"
        )


def log_evaluation(settings: Mapping[str, Any], outcome: Outcome) -> None:
    """One run with the configuration and what the evaluation spent; its id is kept in <out>."""

    def log(run: Any) -> None:
        run.summary.update(
            {
                "images": outcome.images,
                "computed": outcome.computed,
                "failed_rows": outcome.failed_rows,
                "seconds": outcome.seconds,
                **{f"engine_{name}": n for name, n in vars(outcome.counters).items()},
            }
        )
        place = Storage(settings["out"])
        place.write(place.path("wandb-runs", f"{run.id}.json"), json.dumps({"id": run.id}).encode())

    _tracked(settings, "evaluate", dict(settings), log)


def log_aggregation(settings: Mapping[str, Any], found: Sequence[Findings]) -> None:
    """Each study's charts over their axis, its numbers as summary, its table; results by
    reference."""
    place = Storage(settings["out"])
    folder = place.path("wandb-runs")
    runs = [] if not place.fs.exists(folder) else place.fs.ls(folder, detail=False)
    config = {
        "aggregate": dict(settings),
        "evaluation_runs": sorted(Path(name).stem for name in runs),
        "evaluations": [made["config"] for one in found for made in _configs(one.run)],
    }

    def log(run: Any) -> None:
        results = wandb.Artifact(_safe(f"results-{Path(settings['out']).name}"), type="results")
        location = str(Path(settings["out"]).resolve()) if place.is_local else settings["out"]
        prefix = "file://" if place.is_local else ""
        for one in found:
            log_findings(run, one)
            place_of = redacted(f"{prefix}{location}/{one.run.kind.folder}")
            results.add_reference(place_of, checksum=False)
        run.log_artifact(results)

    _tracked(settings, "aggregate", config, log)


def log_verdict(
    settings: Mapping[str, Any], verdict: Mapping[str, Any], lines: Sequence[str]
) -> None:
    """A re-evaluation's numbers as summary; an alert unless it is a pass."""

    def log(run: Any) -> None:
        run.summary.update({name: verdict[name] for name in ("verdict", "images", "needed")})
        for one in verdict["quantities"]:
            name = "/".join(filter(None, (one["kind"], one["subject"])))
            numbers = {"": "mean", "_low": "low", "_high": "high", "_verdict": "word"}
            run.summary.update({f"{name}{end}": one[key] for end, key in numbers.items()})
        if verdict["verdict"] != "pass":
            level = "ERROR" if verdict["verdict"] == "regression" else "WARN"
            run.alert(title=lines[0], text="\n".join(lines[1:]), level=wandb.AlertLevel[level])

    config = {name: verdict[name] for name in ("baseline", "checkpoint")}
    _tracked(settings, "reevaluate", config | {"reevaluate": dict(settings)}, log)


def log_findings(run: Any, found: Findings) -> None:
    """Means and bounds of every chart as a history over its axis, and its means as one plot."""
    for axis in dict.fromkeys(chart.axis for chart in found.charts):
        charts = [chart for chart in found.charts if chart.axis == axis]
        _log_history(run, axis, charts)
        for chart in charts:
            run.log({f"overview/{chart.name}/{chart.quantity}": _overview(chart)})
    rows = completed(found.summary)
    data: list[Any] = [list(row.values()) for row in rows]
    run.log({found.name: wandb.Table(columns=list[Any](rows[0]), data=data)})
    run.summary.update(found.numbers)


def _log_history(run: Any, axis: str, charts: Sequence[Chart]) -> None:
    bands = {
        f"curve/{chart.name}/{title}/{chart.quantity}": band
        for chart in charts
        for title, band in chart.lines.items()
    }
    run.define_metric(axis)
    for name in dict.fromkeys(f"curve/{chart.name}/*" for chart in charts):
        run.define_metric(name, step_metric=axis)
    for i, x in enumerate(charts[0].x_G):
        points = {axis: float(x)}
        for name, band in bands.items():
            points |= {
                name: float(band.mean_G[i]),
                f"{name}_low": float(band.low_G[i]),
                f"{name}_high": float(band.high_G[i]),
            }
        run.log(points)


def _overview(chart: Chart) -> Any:
    return wandb.plot.line_series(
        xs=chart.x_G.tolist(),
        ys=[band.mean_G.tolist() for band in chart.lines.values()],
        keys=list(chart.lines),
        title=f"{chart.name}: {chart.quantity}",
        xname=chart.axis,
    )


def _tracked(
    settings: Mapping[str, Any], kind: str, config: dict[str, Any], log: Callable[[Any], None]
) -> None:
    tracking = settings["tracking"]
    place = Storage(settings["out"])
    folder = place.path() if place.is_local else tempfile.mkdtemp(prefix="wandb-")
    name = Path(settings["out"]).name
    run = None
    given, sys.argv = sys.argv, redacted(sys.argv)  # which W&B keeps, whatever it is told
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
            config=redacted(config),
            dir=folder,
            settings=wandb.Settings(silent=True, console="off"),
        )
        log(run)
        run.finish()
    except Exception as error:
        logger.warning("W&B: nothing tracked, results are complete on disk: %s", error)
        if run is not None:
            run.finish(exit_code=1)
    finally:
        sys.argv = given


def _configs(place: RunDir) -> list[dict[str, Any]]:
    """What the parts say of how they were made, each way once."""
    return list({json.dumps(m["fingerprints"]): m for m in place.metadata()}.values())


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)
