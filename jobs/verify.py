"""Say whether a run directory is whole; nothing is written. Exit status 1 unless it is.

What should be there comes from the directory itself: parts say with which settings they were made,
config.yaml what was accepted last. The data sets must be where those say; no model is loaded. Every
byte of every part is read.

    python -m jobs.verify out=runs/mine

missing     a sample of a data set lacks a row that its sweep asks for: run the sweep again
duplicate   a row lies there more than once, and counts once: jobs.compact removes the others
failed      a row has no result, for the reasons given: mend these, run again with retry=failed
foreign     a row of a sample that no data set has or of settings that no part names; another file
unreadable  a part that is damaged, or no part: remove it, run the sweep again
staged      files that wait to become parts (not wrong): run the sweep again
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline import RunError, UsageError
from pipeline.config import entry_point
from pipeline.rows import RunDir
from pipeline.studies import studies
from pipeline.verify import Verdict, verify


@dataclass
class VerifyConfig:
    """Settings: see conf/verify.yaml."""

    out: str = MISSING
    plugins: list[str] = field(default_factory=list)


@entry_point("verify", VerifyConfig)
def main(settings: dict[str, Any]) -> None:
    """A table of what is wrong, with examples."""
    out = settings["out"]
    runs = [RunDir(out, study.kind) for study in studies()]
    verdicts = [verify(run, settings["plugins"]) for run in runs]
    verdicts = [v for v in verdicts if v.expected or any(t.count for t in v.tallies().values())]
    if not verdicts:
        raise UsageError(f"out={out}: no rows there; give out=<a run's directory>")
    for verdict in verdicts:
        print(shown(verdict))
    wrong = [
        f"{tally.count:,} {name} in {verdict.kind}"
        for verdict in verdicts
        for name, tally in verdict.wrong().items()
        if tally.count
    ]
    if wrong:
        raise RunError(f"out={out} is not whole: {', '.join(wrong)}")
    print(f"{out} is whole")


def shown(verdict: Verdict) -> str:
    """A verdict as text."""
    lines = [f"{verdict.kind}: {verdict.expected:,} rows expected"]
    for name, tally in verdict.tallies().items():
        lines.append(f"  {name:12}{tally.count:,}")
        lines += [f"    {example}" for example in tally.examples]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
