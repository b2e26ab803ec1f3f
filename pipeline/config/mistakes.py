"""What is wrong with a command line, in one line with the fix, which Hydra's own errors lack."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline import UsageError
from pipeline.components import one_line, suggestion
from pipeline.config.composition import CONF, compose

_KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def check(job: str, overrides: Sequence[str]) -> None:
    """Refuse what Hydra would take without a word, or in a way that nobody understands."""
    for one, other in pairwise(overrides):
        (key, _, value), (same, _, last) = one.partition("="), other.partition("=")
        suffix = re.search(r"\.[a-z]\w*$", value)
        if key == same and value != last and suffix and last.endswith(suffix[0]):
            raise UsageError(
                f"{key} is given as {value} and as {last}; if the shell expanded braces, quote "
                f"them twice: '{key}=\"...{{0..9}}...\"'"
            )
    for override in overrides:
        key, _, value = override.partition("=")
        for name in value.strip("[]").split(",") if key == "experiment" else ():
            jobs = jobs_of(CONF / "experiment" / f"{name}.yaml")
            if jobs and job not in jobs:
                raise UsageError(
                    f"experiment={name} is not for jobs.{job}: run it with jobs.{jobs[0]}"
                )


def jobs_of(experiment: Path) -> list[str]:
    """The jobs that an experiment's file says it is for, `# jobs: evaluate, plan`."""
    found = experiment.is_file() and re.search(r"^# jobs: (.+)$", experiment.read_text(), re.M)
    return [name.strip() for name in found[1].split(",")] if found else []


def explained(error: Exception, job: str, overrides: Sequence[str]) -> UsageError:
    """An error of Hydra's composition as a UsageError that names key and fix."""
    cause = error.__cause__ or error
    text = str(error)
    key = re.search(r"full_key: (\S+)", str(cause))
    if found := re.search(r"Could not override '(.+)'", text):
        return _mistyped(found[1], job, overrides)
    if found := re.search(r"Could not (?:find|load) '(.+)/([^/']+)'", text):
        return _unknown_choice(found[1], found[2], text, job)
    if key and (found := re.search(r"Value (.+) of type .* converted to (\w+)", str(cause))):
        return UsageError(f"{key[1]}={found[1]}: give {_KINDS.get(found[2], found[2])}")
    if found := re.search(r"field '(.+)' is not Optional", str(cause)):
        return UsageError(f"{found[1]}=null: give a value")
    if braces := [o for o in overrides if "{" in o]:
        name, _, value = braces[0].partition("=")
        if '"' not in value and "Override" in type(error).__name__:
            return UsageError(f"{name}: quote braces twice: '{name}=\"{value}\"'")
    if found := re.search(r"Error parsing override '(.*)'\nmissing EQUAL", text):
        return UsageError(f"{found[1]!r}: give key=value")
    said = one_line(cause).split(" reference_type=")[0].split(" object_type=")[0]
    return UsageError(said.split(" See https://hydra.cc")[0])


def _unknown_choice(group: str, choice: str, text: str, job: str) -> UsageError:
    """Say what there is to choose from."""
    offered = re.search(r"Available options in .*?:\n((?:\t.+\n?)*)", text)
    known = offered[1].split() if offered else [p.stem for p in (CONF / group).glob("*.yaml")]
    if group == "experiment":
        known = [name for name in known if job in (jobs_of(CONF / group / f"{name}.yaml") or [job])]
    return UsageError(
        f"{group}/{choice} does not exist: choose {group} from {', '.join(sorted(known))}"
    )


def _mistyped(key: str, job: str, overrides: Sequence[str]) -> UsageError:
    """Look the key's neighbours up in the settings without it."""
    rest = [o for o in overrides if o.partition("=")[0] != key]
    try:
        config = compose(job, rest)
    except (HydraException, OmegaConfBaseException, ValueError):  # not the only mistake, or a sweep
        return UsageError(f"{key}: no such setting; --help lists them")
    parent, node, names = "", config, key.split(".")
    while len(names) > 1 and OmegaConf.is_dict(inner := OmegaConf.select(node, names[0])):
        parent, node, names = f"{parent}{names[0]}.", inner, names[1:]
    known = [str(k) for k in node if k not in ("hydra", "_target_")]
    if parent == "methods." and (CONF / "methods" / f"{names[0]}.yaml").is_file():
        return UsageError(f"{parent}{names[0]} is not among methods=[{','.join(known)}]: add it")
    return UsageError(f"{parent}{names[0]}: no such setting; {suggestion(names[0], known)}")
