"""What a run tells trackers, W&B or TensorBoard or nobody, and the only place that imports them.

An evaluation tells while it works; an aggregation tells curves, tables and pictures: online in the
evaluation's own run, offline in one beside it. Results are on disk before, and nothing that goes
wrong here fails a run.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Protocol, Self

from pipeline import UsageError
from pipeline.identity import fingerprint
from pipeline.rows import Storage
from pipeline.studies import Findings
from pipeline.tracking import described, records
from pipeline.tracking.live import Follower
from pipeline.tracking.records import Record
from pipeline.workers import Outcome

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Somebody who is told of a run; see `wandb_run` and `board`."""

    def progress(self, told: Mapping[str, Any]) -> None:
        """How far an evaluation is, as progress.json says."""
        ...

    def numbers(self, numbers: Mapping[str, Any]) -> None:
        """What is to be compared between runs."""
        ...

    def artifact(self, name: str, kind: str, paths: Sequence[str], uses: Sequence[str]) -> None:
        """Files below <out>, and the artifacts that they were made of."""
        ...

    def findings(self, found: Findings, samples: int) -> None:
        """Curves, table, so many photographs, numbers."""
        ...

    def alert(self, title: str, text: str, level: str) -> None:
        """What somebody should be told of; `level`: INFO, WARN or ERROR."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """That is all."""
        ...


def check(settings: Mapping[str, Any]) -> None:
    """Raise UsageError where a tracker that is wanted cannot work; asks no server."""
    mode = settings["tracking"]["mode"]
    if mode == "online":
        import wandb

        if not wandb.api.api_key:
            raise UsageError(
                "tracking=online: there is no W&B key; run wandb login, set WANDB_API_KEY, or give "
                "tracking=offline (jobs.sync uploads later)"
            )
    if mode == "tensorboard":
        if find_spec("tensorboard") is None:
            raise UsageError(
                "tracking=tensorboard: TensorBoard is not installed; pip install "
                "'pixel-quorum[tensorboard]', or give tracking=disabled"
            )
        if not Storage(settings["out"]).is_local:
            raise UsageError(
                f"tracking=tensorboard: out={settings['out']} is a store; give a folder, or "
                "tracking=offline"
            )


class Evaluation:
    """Tells of an evaluation from its first word in progress.json on, and `tell`s its outcome."""

    def __init__(self, settings: Mapping[str, Any]):
        self._settings = settings
        self._lost = settings["tracking"]["mode"] == "disabled"
        self._tracker: Tracker | None = None
        self._artifact = ""
        self._follower: Follower | None = None

    def __enter__(self) -> Self:
        if not self._lost:
            self._follower = Follower(self._settings["out"], self._progress)
            self._follower.start()
        return self

    def tell(self, outcome: Outcome) -> None:
        """What it spent, and where its rows are; nothing where nothing was computed."""
        if self._lost or not outcome.computed:
            return
        self._leave()
        numbers = {
            "images": outcome.images,
            "computed": outcome.computed,
            "failed_rows": outcome.failed_rows,
            "seconds": outcome.seconds,
            **{f"engine_{name}": n for name, n in vars(outcome.counters).items()},
        }
        self._do(lambda tracker: tracker.numbers(numbers))
        self._do(lambda tracker: tracker.artifact(self._artifact, "rows", ["results", "masks"], []))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()
        if self._tracker is not None:
            self._do(lambda tracker: tracker.close(failed=error is not None))

    def _progress(self, told: Mapping[str, Any]) -> None:
        self._do(lambda tracker: tracker.progress(told))

    def _leave(self) -> None:
        if self._follower is not None and not self._follower.leave():
            self._lost = True
            logger.warning("tracking: no answer; the run goes on without")
        self._follower = None

    def _do(self, action: Callable[[Tracker], None]) -> None:
        if self._lost:
            return
        try:
            if self._tracker is None:
                self._tracker = self._opened()
            action(self._tracker)
        except Exception as error:
            self._lost = True
            logger.warning("tracking: nothing more is tracked, results are not touched: %s", error)

    def _opened(self) -> Tracker:
        """Online a run goes on when its evaluation does; offline runs of one id do not merge."""
        out, mode = self._settings["out"], self._settings["tracking"]["mode"]
        place, base = Storage(out), described.evaluation(self._settings)
        self._artifact = _safe(f"rows-{described.name(out)}-{base[:8]}")
        before = sum(record.base == base for record in records.read(place))
        id = base if mode != "offline" or not before else f"{base}-{before + 1}"
        tracker = _tracker(self._settings, "evaluate", id, described.said(self._settings))
        if mode != "tensorboard":
            records.write(place, Record(id=id, base=base, mode=mode, artifact=self._artifact))
        return tracker


def log_aggregation(settings: Mapping[str, Any], found: Sequence[Findings]) -> None:
    """Each study's charts, table, photographs and numbers; results and report by reference. What
    was told already is not told again."""
    place, mode = Storage(settings["out"]), settings["tracking"]["mode"]

    def prepared(content: str) -> tuple[Record, dict[str, Any]]:
        made = [record for record in records.read(place) if record.job == "evaluate"]
        config = described.evaluations(found) | {
            "aggregate": described.said(settings),
            "evaluation_runs": [record.id for record in made],
        }
        live = [record for record in made if record.mode == mode == "online"]
        if len(live) == 1 and not live[0].content:
            return live[0], config
        uses = list(dict.fromkeys(record.artifact for record in made if record.artifact))
        own = {"id": content, "base": content, "job": "aggregate", "mode": mode}
        return Record(**own, artifact=report(content), uses=uses), config

    def report(content: str) -> str:
        return _safe(f"report-{described.name(settings['out'])}-{content[:8]}")

    def log(tracker: Tracker, record: Record) -> None:
        for one in found:
            tracker.findings(one, settings["tracking"]["samples"])
        files = [name for name in place.names() if name.endswith((".parquet", ".csv"))]
        name = report(described.aggregation(settings, found))
        tracker.artifact(name, "report", ["report", "tables", *files], list(record.uses))

    _tracked(settings, "aggregate", lambda: described.aggregation(settings, found), prepared, log)


def log_cell(
    settings: Mapping[str, Any], options: Mapping[str, str], numbers: Mapping[str, float]
) -> None:
    """A run for a cell of a sweep, in one group with the others: its options and its numbers."""
    config = {"sweep": dict(options)}
    id = fingerprint([described.location(settings["out"]), config, dict(numbers)])
    _short(settings, "cell", id, config, lambda tracker: tracker.numbers(numbers))


def log_verdict(
    settings: Mapping[str, Any], verdict: Mapping[str, Any], lines: Sequence[str]
) -> None:
    """A re-evaluation's numbers as summary; an alert unless it is a pass."""
    numbers = {name: verdict[name] for name in ("verdict", "images", "needed")}
    for one in verdict["quantities"]:
        name = "/".join(filter(None, (one["kind"], one["subject"])))
        ends = {"": "mean", "_low": "low", "_high": "high", "_verdict": "word"}
        numbers |= {f"{name}{end}": one[key] for end, key in ends.items()}

    def log(tracker: Tracker) -> None:
        tracker.numbers(numbers)
        if verdict["verdict"] != "pass":
            level = "ERROR" if verdict["verdict"] == "regression" else "WARN"
            tracker.alert(lines[0], "\n".join(lines[1:]), level)

    config = {name: verdict[name] for name in ("baseline", "checkpoint")}
    config |= {"reevaluate": described.said(settings)}
    id = fingerprint([described.location(settings["out"]), repr(config), repr(numbers)])
    _short(settings, "reevaluate", id, config, log)


def _short(
    settings: Mapping[str, Any],
    job: str,
    id: str,
    config: dict[str, Any],
    log: Callable[[Tracker], None],
) -> None:
    """A run that is opened, told and closed."""
    record = Record(id=id, base=id, job=job, mode=settings["tracking"]["mode"])
    _tracked(settings, job, lambda: id, lambda _: (record, config), lambda told, _: log(told))


def _tracked(
    settings: Mapping[str, Any],
    job: str,
    identify: Callable[[], str],
    prepared: Callable[[str], tuple[Record, dict[str, Any]]],
    log: Callable[[Tracker, Record], None],
) -> None:
    """Tell a tracker what `identify` names, unless it knows."""
    place, mode = Storage(settings["out"]), settings["tracking"]["mode"]
    if mode == "disabled":
        return
    tracker = None
    try:
        content = identify()
        known = [r for r in records.read(place) if (r.content, r.mode) == (content, mode)]
        if known:
            logger.info("tracking: run %s holds this already", known[0].id)
            return
        record, config = prepared(content)
        tracker = _tracker(settings, job, record.id, config)
        log(tracker, record)
        tracker.close()
        if mode != "tensorboard":
            records.write(place, Record(**vars(record) | {"content": content}))
    except Exception as error:
        logger.warning("tracking: nothing tracked, results are complete on disk: %s", error)
        if tracker is not None:
            tracker.close(failed=True)


def _tracker(settings: Mapping[str, Any], job: str, id: str, config: Mapping[str, Any]) -> Tracker:
    """Open the tracker that is configured; neither is imported unless it is."""
    if settings["tracking"]["mode"] == "tensorboard":
        from pipeline.tracking.board import Board

        return Board(settings, job, id, config)
    from pipeline.tracking.wandb_run import WandbRun

    return WandbRun(settings, job, id, config)


def _safe(name: str) -> str:
    """What W&B allows in an artifact's name."""
    return re.sub(r"[^\w.-]", "_", name)
