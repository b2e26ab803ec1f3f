"""How a job becomes a command: typed settings from YAML files and `key=value`, one-line errors.

A usage error, Hydra's or ours, is one line on standard error and exit status 2; work that had to
stop is one line and exit status 1.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pipeline import RunError, UsageError
from pipeline.components import one_line
from pipeline.config import help, mistakes
from pipeline.config.composition import CONF, compose, resolve
from pipeline.config.sweeps import parsed
from pipeline.config.trace import record
from pipeline.redaction import guard_output
from pipeline.sweep import Sweep

__all__ = ["CONF", "Command", "entry_point", "record"]

_COMPOSITION = (HydraException, OmegaConfBaseException, ValueError)


@dataclass(frozen=True)
class Command:
    """A function of plain settings as the command `python -m jobs.<name>`."""

    name: str
    schema: type
    job: Callable[[dict[str, Any]], None]
    translate: Callable[[list[str]], list[str]] = list
    """Makes of a command line what Hydra takes."""
    sweep: Callable[[Sweep], int] | None = None
    """Takes all cells of a sweep and returns an exit status; else Hydra runs the job for each."""

    def settings(self, overrides: Sequence[str], *, here: bool = True) -> dict[str, Any]:
        """What the job is given for these overrides, `here` or elsewhere. Raises UsageError."""
        settings = self._composed(overrides, here=here)
        settings.pop("sweep", None)  # that is for whoever sweeps
        return settings

    def _composed(self, overrides: Sequence[str], *, here: bool = True) -> dict[str, Any]:
        mistakes.check(self.name, overrides)
        try:
            config = compose(self.name, overrides)
        except _COMPOSITION as error:
            raise mistakes.explained(error, self.name, overrides) from None
        return resolve(config, self.schema, here=here)

    def __call__(self) -> None:
        """Serve the command line."""
        guard_output()
        with _one_line_errors():
            given = self.translate(sys.argv[1:])
        overrides = [a for a in given if "=" in a and not a.startswith("-")]
        with _one_line_errors():
            mistakes.check(self.name, overrides)
            if {"--help", "-h"} & set(given):
                doc = sys.modules[self.job.__module__].__doc__ or ""
                print(help.text(self.name, doc, overrides))
            elif self.sweep and set(given) - set(overrides) in ({"-m"}, {"--multirun"}):
                sys.exit(self._sweep(self.sweep, overrides))
            else:
                # overrides on both sides of a flag are more than Hydra's parser takes
                sys.argv[1:] = [*(a for a in given if a not in overrides), *overrides]
                self._compose_and_run(overrides)

    def _sweep(self, run: Callable[[Sweep], int], overrides: list[str]) -> int:
        """Hydra parses and composes; the cells are run together."""
        try:
            sweep = parsed(overrides, self._composed)
            composed = compose(self.name, [])
        except _COMPOSITION as error:
            raise mistakes.explained(error, self.name, overrides) from None
        configure_log(composed.hydra.job_logging, composed.hydra.verbose)
        composed.hydra.overrides.task = ["-m", *overrides]
        HydraConfig.instance().set_config(composed)
        return run(sweep)

    def _compose_and_run(self, overrides: list[str]) -> None:
        """Hydra's flags, sweeps and logging are its own; its files go where nobody sees them."""
        at_work = False

        @hydra.main(config_path=str(CONF), config_name=self.name, version_base="1.3")
        def composed(config: DictConfig) -> None:
            nonlocal at_work
            with _one_line_errors():  # here, since Hydra tells of exceptions in its own words
                settings = resolve(config, self.schema)
                settings.pop("sweep", None)
                at_work = True
                self.job(settings)
                at_work = False

        os.environ["HYDRA_FULL_ERROR"] = "1"  # raise, so that one line can be made of it
        with tempfile.TemporaryDirectory() as folder:
            if {"-m", "--multirun"} & set(sys.argv) and "hydra.sweep.dir=" not in str(overrides):
                sys.argv.append(f"hydra.sweep.dir={folder}")
            try:
                composed()
            except _COMPOSITION as error:
                if at_work:
                    raise
                raise mistakes.explained(error, self.name, overrides) from None


def entry_point(
    name: str,
    schema: type,
    translate: Callable[[list[str]], list[str]] = list,
    sweep: Callable[[Sweep], int] | None = None,
) -> Callable[[Callable[[dict[str, Any]], None]], Command]:
    """Make a function of plain settings the command of conf/<name>.yaml, typed by `schema`; `sweep`
    takes all cells of a sweep at once."""
    ConfigStore.instance().store(name=f"{name}_schema", node=schema)
    return lambda job: Command(name, schema, job, translate, sweep)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """What the user or the surroundings are to mend, as one line and an exit status."""
    try:
        yield
    except (UsageError, RunError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        print("error: interrupted; what is done stays: run the same command again", file=sys.stderr)
        sys.exit(130)
