"""A search among cells: Optuna's ask and tell over a journal in the run directory.

    <out>/optuna.journal    every trial: asked for, told, or under way when its driver was killed

A trial that was under way is taken up again with its own parameters. What it is worth is read from
the rows of its cell, which are content-addressed: nothing is computed twice.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import UsageError
from pipeline.identity import fingerprint
from pipeline.rows import RunDir
from pipeline.sweep import Axis, named

if TYPE_CHECKING:
    import optuna

JOURNAL = "optuna.journal"
FREE = ("cluster", "tracking", "lock", "retry", "max_failed", "out", "published", "table")
"""Settings that no row depends on: a search goes on whatever they are."""
Worth = Callable[[Mapping[str, str]], float | None]
"""What a cell of these options is worth, None where it failed."""


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """How a search is made: see conf/sweep/optuna.yaml."""

    adaptive: ClassVar[bool] = True
    trials: int = 20
    seed: int = 0
    measure: str = "auc_probability"
    facet: str | int | None = "deletion"
    method: str | None = None
    direction: Literal["minimize", "maximize"] = "minimize"
    fail_fast: bool = False

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UsageError(f"sweep.trials={self.trials}: give at least 1")

    def search(
        self, out: str, axes: Sequence[Axis], settings: Mapping[str, Any], worth: Worth
    ) -> Iterator[str]:
        """Trials until there are enough, those of earlier commands among them; what has become of
        each. `settings`: of any cell; others than FREE begin another search.

        To be called under the run directory's lock. Raises UsageError where Optuna is not
        installed, and where `out` is no local folder.
        """
        study = self._study(out, axes, settings)
        import optuna

        waiting = [t._trial_id for t in study.get_trials(states=(optuna.trial.TrialState.RUNNING,))]
        while waiting or len(study.trials) < self.trials:
            # its own seed for each, so that a search which was killed goes on as it would have
            study.sampler = optuna.samplers.TPESampler(seed=self.seed + len(study.trials))
            trial = optuna.trial.Trial(study, waiting.pop(0)) if waiting else study.ask()
            value = worth({axis.option: _suggested(trial, axis) for axis in axes})
            if value is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                yield f"trial {trial.number}: failed"
            else:
                study.tell(trial, value)
                yield f"trial {trial.number}: {self.measure} {value:.4f}"
        done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
        if done:
            best = study.best_trial
            said = named({option: _text(value) for option, value in best.params.items()})
            what = f"{self.measure} {best.value:.4f}"
            yield f"best of {len(done)} trials: {best.number}, {what}; {said}"

    def check(self, run: RunDir, methods: Sequence[str]) -> None:
        """Raise UsageError for rows that there will not be."""
        if self.method is not None and self.method not in methods:
            raise UsageError(
                f"sweep.method={self.method}: it is not among methods; use one of "
                f"{', '.join(methods)}"
            )
        known = run.kind.schema
        if self.measure not in known.names or not pa.types.is_floating(
            known.field(self.measure).type
        ):
            names = [f.name for f in known if pa.types.is_floating(f.type)]
            raise UsageError(f"sweep.measure={self.measure}: use one of {', '.join(names)}")

    def worth(self, run: RunDir, fingerprints: Mapping[str, str]) -> float | None:
        """Mean over a cell's rows, given its fingerprints by method; None where none is ok."""
        mine = [p for name, p in fingerprints.items() if self.method in (None, name)]
        rows = run.read(["fingerprint", "status", run.kind.facet, self.measure])
        kept = pc.and_(
            pc.is_in(rows["fingerprint"], value_set=pa.array(mine)), pc.equal(rows["status"], "ok")
        )
        if self.facet is not None:
            facet = pc.equal(pc.cast(rows[run.kind.facet], pa.string()), str(self.facet))
            kept = pc.and_(kept, facet)
        values = rows.filter(kept)[self.measure].drop_null().to_numpy()
        mean = float(np.mean(values)) if len(values) else float("nan")
        return None if np.isnan(mean) else mean

    def _study(self, out: str, axes: Sequence[Axis], settings: Mapping[str, Any]) -> "optuna.Study":
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise UsageError(
                "sweep=optuna: Optuna is not installed; pip install 'pixel-quorum[sweep]'"
            ) from None
        place = RunDir(out, kind=None)  # type: ignore[arg-type]
        if not place.is_local:
            raise UsageError(f"out={out}: Optuna's journal is a local file; give a folder")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        swept = {axis.option for axis in axes}
        content = {
            "axes": [asdict(axis) for axis in axes],
            "settings": _without({k: v for k, v in settings.items() if k not in FREE}, swept),
            "worth": [self.measure, self.facet, self.method, self.direction, self.seed],
        }
        return optuna.create_study(
            study_name=fingerprint(content),
            storage=JournalStorage(JournalFileBackend(place.path(JOURNAL))),
            direction=self.direction,
            load_if_exists=True,
        )


def _without(settings: Mapping[str, Any], swept: set[str]) -> Any:
    """Settings less those that the options name, whatever depends on them being told by axes."""
    tree = json.loads(json.dumps(settings))
    for option in swept:
        *path, last = option.lstrip("+~").partition("@")[0].replace("/", ".").split(".")
        node = tree
        for name in path:
            node = node.get(name, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node.pop(last, None)
    return tree


def _suggested(trial: "optuna.Trial", axis: Axis) -> str:
    """What Optuna proposes, or has proposed when the trial was begun, as a command line has it."""
    if axis.values:
        return str(trial.suggest_categorical(axis.option, list(axis.values)))
    if axis.whole:
        return _text(trial.suggest_int(axis.option, int(axis.low), int(axis.high), log=axis.log))
    return _text(trial.suggest_float(axis.option, axis.low, axis.high, log=axis.log))


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
