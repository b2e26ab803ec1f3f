"""Run a job elsewhere: on a Ray cluster, Kubernetes, Slurm, or here in the background.

What follows -- is the command as you would run it here; its settings are composed and checked
before anything is sent. The same settings and code are the same submission: it is found, not sent
twice. The exit status is the job's own.

    python -m jobs.submit submit=ray --follow -- python -m jobs.evaluate dataset=imagenet out=s3://...
    python -m jobs.submit submit=slurm --no-wait -- python -m jobs.evaluate ...
    python -m jobs.submit submit=slurm --status -- python -m jobs.evaluate ...   # or id=<id>
    python -m jobs.submit submit=slurm --stop id=evaluate-0123456789ab
    python -m jobs.submit submit=kuberay --dry-run -- python -m jobs.evaluate ...
"""

import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import MISSING

from pipeline import RunError, UsageError
from pipeline.components import component, suggestion
from pipeline.config import entry_point
from pipeline.config.limits import above, one_of, setting
from pipeline.identity import fingerprint
from pipeline.redaction import redacted
from pipeline.submission import Backend, Job, lifecycle
from pipeline.submission.revision import revision

FLAGS = {
    "--wait": "wait=true",
    "--no-wait": "wait=false",
    "--follow": "follow=true",
    "--status": "action=status",
    "--stop": "action=stop",
    "--dry-run": "action=dry_run",
}


def translated(given: list[str]) -> list[str]:
    """Flags as settings, and what follows -- as the setting `command`."""
    own, _, command = _split(given)
    quoted = ",".join(_quoted(word) for word in command)
    return [*(FLAGS.get(word, word) for word in own), *([f"command=[{quoted}]"] if command else [])]


@dataclass
class SubmitConfig:
    """Settings: see conf/submit.yaml."""

    submit: Any = MISSING
    command: list[str] = field(default_factory=list)
    action: str = setting("submit", one_of("submit", "dry_run", "status", "stop"))
    id: str | None = None
    again: bool = False
    wait: bool = True
    follow: bool = False
    poll_s: float = setting(2.0, above(0))


@entry_point("submit", SubmitConfig, translated)
def main(settings: dict[str, Any]) -> None:
    """Whatever is asked for; exits with the job's own status where it was waited for."""
    backend: Backend = component(settings["submit"], "submit")
    if settings["action"] in ("status", "stop"):
        _ask(backend, settings)
    elif settings["command"]:
        _send(backend, composed(settings["command"], backend), settings)
    else:
        raise UsageError("say what to run: jobs.submit ... -- python -m jobs.<name> key=value ...")


def _send(backend: Backend, job: Job, settings: dict[str, Any]) -> None:
    id = settings["id"] or _id(job, backend)
    if settings["action"] == "dry_run":
        print(backend.preview(job, id))
        return
    id = lifecycle.submit(backend, job, id, again=settings["again"], say=_say)
    if settings["wait"] or settings["follow"]:
        watch = {"follow": settings["follow"], "poll_s": settings["poll_s"]}
        sys.exit(lifecycle.wait(backend, id, say=_say, **watch).exit_status)


def _ask(backend: Backend, settings: dict[str, Any]) -> None:
    if not (settings["id"] or settings["command"]):
        raise UsageError("say which submission: id=<id>, or -- and the command that was submitted")
    id = settings["id"] or _id(composed(settings["command"], backend), backend)
    if settings["action"] == "stop":
        lifecycle.stop(backend, id, poll_s=settings["poll_s"], say=_say)
        return
    last, state, _ = lifecycle.latest(backend, id)
    if state is None:
        raise RunError(f"{id}: nobody has submitted it")
    print(lifecycle.told(last, state))
    sys.exit(state.exit_status)


def _id(job: Job, backend: Backend) -> str:
    return job.name if backend.standing else job.id


def composed(command: Sequence[str], backend: Backend) -> Job:
    """The job that a command line names, its settings checked for where it is to run."""
    name, overrides = _job(command)
    there = importlib.import_module(f"jobs.{name}").main
    first = _first_cell(overrides)
    settings = there.settings(first, here=not backend.remote)
    if added := backend.additions(settings):
        settings = there.settings([*first, *added], here=not backend.remote)
    _check(overrides, settings, backend)
    metadata = revision(Path.cwd()) | {"settings": fingerprint(settings)}
    return Job(name=name, overrides=[*overrides, *added], settings=settings, metadata=metadata)


def _job(command: Sequence[str]) -> tuple[str, list[str]]:
    """A job's name and overrides, of `python -m jobs.<name>`, `pixel-quorum <name>` or `<name>`."""
    words = list(command)
    while len(words) > 1 and (Path(words[0]).name.startswith(("python", "pixel-quorum", "-m"))):
        del words[0]
    name = words.pop(0).removeprefix("jobs.")
    known = [p.stem for p in Path(__file__).parent.glob("[!_]*.py") if p.stem != "submit"]
    if name not in known:
        raise UsageError(f"{name!r} is no job that can be submitted; {suggestion(name, known)}")
    return name, words


def _first_cell(overrides: Sequence[str]) -> list[str]:
    """Overrides with the first of what each sweeps over."""
    given = [o for o in overrides if o not in ("-m", "--multirun")]
    if len(given) == len(overrides):
        return given
    swept = OverridesParser.create().parse_overrides(given)
    return [
        f"{o.get_key_element()}={next(o.sweep_string_iterator())}"
        if o.is_sweep_override()
        else text
        for o, text in zip(swept, given, strict=True)
    ]


def _check(overrides: Sequence[str], settings: dict[str, Any], backend: Backend) -> None:
    """Refuse what only goes wrong elsewhere."""
    for override in overrides:
        if redacted(override) != override:
            raise UsageError(
                f"{redacted(override)}: holds a credential, which whoever may look at submissions "
                "would see; give it to the cluster in its environment"
            )
    out = settings.get("out")
    if backend.remote and out and "://" not in out and not Path(out).is_absolute():
        raise UsageError(
            f"out={out}: a relative folder would be lost with the machine that it lies on; give a "
            "URL, or an absolute path that all nodes see"
        )


def _split(given: list[str]) -> tuple[list[str], list[str], list[str]]:
    at = given.index("--") if "--" in given else len(given)
    return given[:at], given[at : at + 1], given[at + 1 :]


def _quoted(word: str) -> str:
    """A word as Hydra's grammar reads it back, without interpolation."""
    plain = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", word)
    return QuotedString(text=plain, quote=Quote.single).with_quotes()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
