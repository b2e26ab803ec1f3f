"""A run of W&B: opened under an id of ours, told what there is, closed."""

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb

from pipeline.redaction import redacted
from pipeline.rows import Storage
from pipeline.statistics import completed
from pipeline.studies import Chart, Findings
from pipeline.tracking import charts, described

PATIENCE_S = 30
"""Seconds that W&B may take to answer at the beginning, and four times that to upload at the end;
what is not uploaded stays on disk for jobs.sync."""
CLOCK = "run/seconds"


class WandbRun:
    """A run that is open."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        job: str,
        id: str,
        config: Mapping[str, Any],
    ):
        """Online a run of this id goes on, if there is one."""
        tracking = redacted(settings["tracking"])
        self._place = Storage(settings["out"])
        self._online = tracking["mode"] == "online"
        self._folder = self._place.path() if self._place.is_local else tempfile.mkdtemp()
        Path(self._folder).mkdir(parents=True, exist_ok=True)
        called = described.name(settings["out"])
        given, sys.argv = sys.argv, redacted(sys.argv)  # W&B keeps the command line
        try:
            self.run = wandb.init(
                mode=tracking["mode"],
                project=tracking["project"],
                entity=tracking["entity"],
                group=tracking["group"] or called,
                name=called if self._online else f"{called}-{job}",
                job_type=job,
                tags=list(tracking["tags"]),
                id=id,
                resume="allow" if self._online else None,
                dir=self._folder,
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    init_timeout=PATIENCE_S,
                    finish_timeout=4 * PATIENCE_S,
                ),
            )
        finally:
            sys.argv = given
        self.run.config.update(redacted(config), allow_val_change=True)
        self.run.define_metric("run/*", step_metric=CLOCK)
        self._entity = (self.run.entity if self._online else None) or tracking["entity"]
        if self._online and self._entity:
            charts.publish(self._entity)

    def progress(self, told: Mapping[str, Any]) -> None:
        """What progress.json says, over the seconds of the run."""
        self.run.log(
            {
                CLOCK: told["seconds"],
                "run/images": told["done"],
                "run/in_flight": told["in_flight"],
                "run/share": told["share"],
                "run/forwards_per_s": told["forwards_per_s"],
                "run/images_per_s": sum(actor["images_per_s"] for actor in told["actors"]),
                "run/failed_rows": told["failed_rows"],
            }
        )

    def numbers(self, numbers: Mapping[str, Any]) -> None:
        """Into the summary."""
        self.run.summary.update(dict(numbers))

    def artifact(self, name: str, kind: str, paths: Sequence[str], uses: Sequence[str]) -> None:
        """What lies below <out>, by reference; online, artifacts that it stands on are inputs of
        this run (offline W&B cannot say so: jobs.sync does)."""
        if self._online:
            for other in uses:
                self.run.use_artifact(f"{other}:latest")
        made = wandb.Artifact(name, type=kind)
        for path in paths:
            if self._place.fs.exists(self._place.path(path)):
                prefix = "file://" if self._place.is_local else ""
                where = f"{prefix}{described.location(self._place.out)}/{path}"
                made.add_reference(where, name=path, checksum=False, max_objects=1_000_000)
        self.run.log_artifact(made)

    def findings(self, found: Findings, samples: int) -> None:
        """Curves, in charts with intervals and as a hidden history over their axis; the table, so
        many photographs, and numbers with the direction in which they are better."""
        for axis in dict.fromkeys(chart.axis for chart in found.charts):
            self._history(axis, [chart for chart in found.charts if chart.axis == axis])
        for chart in found.charts:
            drawn = charts.drawn(chart, self._entity)
            self.run.log({f"curves/{chart.name}/{chart.quantity}": drawn})
        self.run.log({found.name: _table(completed(found.summary))})
        if samples and (rows := completed(list(found.samples(samples)))):
            self.run.log({f"{found.name}/images": _table(rows)})
        aims = {name: way for name, way in found.aims.items() if name in found.numbers}
        for name, way in aims.items():
            self.run.define_metric(name, summary=way, hidden=True)
        self.run.log({name: found.numbers[name] for name in aims})
        self.numbers({name: n for name, n in found.numbers.items() if name not in aims})

    def alert(self, title: str, text: str, level: str) -> None:
        """As W&B sends it by mail or chat; `level`: INFO, WARN or ERROR."""
        self.run.alert(title=title, text=text, level=level)

    def close(self, *, failed: bool = False) -> None:
        """Upload what is left, for a while; where <out> is a store, the files of an offline run go
        there."""
        self.run.finish(exit_code=int(failed))
        if self._place.is_local:
            return
        if not self._online:
            for folder in Path(self._folder).glob("wandb/offline-run-*"):
                to = self._place.path("wandb", folder.name)
                self._place.fs.put(f"{folder}/", f"{to}/", recursive=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _history(self, axis: str, drawn: Sequence[Chart]) -> None:
        """Every point, for panels of one's own; none by itself, and no end point in the summary."""
        bands = {
            f"curve/{chart.name}/{title}/{chart.quantity}": band
            for chart in drawn
            for title, band in chart.lines.items()
        }
        self.run.define_metric(axis, hidden=True, summary="none")
        for name in dict.fromkeys(f"curve/{chart.name}/*" for chart in drawn):
            self.run.define_metric(name, step_metric=axis, hidden=True, summary="none")
        for i, x in enumerate(drawn[0].x_G):
            points = {axis: float(x)}
            for name, band in bands.items():
                points |= {
                    name: float(band.mean_G[i]),
                    f"{name}_low": float(band.low_G[i]),
                    f"{name}_high": float(band.high_G[i]),
                }
            self.run.log(points)


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Pictures are arrays (H, W, 3) of uint8."""
    data: list[Any] = [
        [wandb.Image(v) if isinstance(v, np.ndarray) else v for v in row.values()] for row in rows
    ]
    return wandb.Table(columns=list[Any](rows[0]), data=data)
