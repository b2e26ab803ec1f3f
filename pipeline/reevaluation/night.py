"""All that is said of one re-evaluation, for people and machines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from pipeline.reevaluation.baselines import Baseline
from pipeline.reevaluation.history import numbers
from pipeline.reevaluation.verdicts import INCONCLUSIVE, REGRESSION, Verdict, Word, overall
from pipeline.report.tables import Table
from pipeline.report.text import number
from pipeline.rows import Storage

HEADS = ("quantity", "verdict", "worse by", "interval", "tolerance", "images", "images needed")


@dataclass(frozen=True, kw_only=True)
class Night:
    """A checkpoint's verdicts against a baseline; `images`: that both hold; `strict`: what is not
    decided fails; `changed`: images that changed most, as shard/key; `notes`: what was left out."""

    baseline: Baseline
    checkpoint: Baseline
    verdicts: Sequence[Verdict]
    images: int
    strict: bool
    changed: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def word(self) -> Word:
        """The verdict on the whole."""
        return overall(self.verdicts)

    @property
    def needed(self) -> int | None:
        """Images that should decide everything, None where nothing is open or it takes too many."""
        asked = [verdict.needed for verdict in self.verdicts if verdict.word == INCONCLUSIVE]
        return None if None in asked or not asked else max(filter(None, asked))

    def lines(self) -> list[str]:
        """The verdict, and why it is not a pass."""
        said = [
            f"{self.word}: {self.checkpoint.model} ({self.checkpoint.weights}) against "
            f"{self.baseline.name}, {self.baseline.model} ({self.baseline.weights}), "
            f"{self.images} images"
        ]
        said += [
            f"{verdict.title}: {verdict.word}, {verdict.why}"
            for verdict in self.verdicts
            if verdict.word == REGRESSION or verdict.word == INCONCLUSIVE
        ]
        if self.word == INCONCLUSIVE and self.needed is not None:
            said.append(
                f"warning: not decided; {self.needed - self.images} images more, {self.needed} in "
                "all, should decide: pin a baseline of so many"
            )
        elif self.word == INCONCLUSIVE:
            said.append("warning: not decided, and more images will hardly do: see the tolerance")
        if self.word == REGRESSION and self.changed:
            said.append(f"changed most: {', '.join(self.changed)}")
        return said

    def table(self) -> Table:
        """A line a quantity."""
        rows = []
        for v in self.verdicts:
            asked = "-" if v.word != INCONCLUSIVE else "too many" if v.needed is None else v.needed
            rows.append(
                [
                    *(v.title, v.word, number(v.mean, "+.4f")),
                    f"[{number(v.low, '+.4f')}, {number(v.high, '+.4f')}]",
                    f"{'± ' if v.two_sided else ''}{v.tolerance:g}",
                    *(str(v.n), str(asked)),
                ]
            )
        return Table(HEADS, rows)

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "verdict": self.word,
            "images": self.images,
            "needed": self.needed,
            "strict": self.strict,
            "baseline": vars(self.baseline),
            "checkpoint": vars(self.checkpoint),
            "quantities": [numbers(verdict) for verdict in self.verdicts],
            "changed_most": list(self.changed),
            "notes": list(self.notes),
        }

    def markdown(self) -> str:
        """For a job's summary."""
        first, *rest = self.lines()
        notes = [f"- {note}" for note in (*rest, *self.notes)]
        return "\n".join([f"# {first}", "", self.table().markdown(), *notes, ""])

    def junit(self) -> bytes:
        """A test a quantity: regressions fail, what is not decided is skipped, or fails too."""
        words = [verdict.word for verdict in self.verdicts]
        undecided = "failures" if self.strict else "skipped"
        counts = {"failures": words.count(REGRESSION), "skipped": 0}
        counts[undecided] += words.count(INCONCLUSIVE)
        said = {name: str(count) for name, count in counts.items()}
        suite = ElementTree.Element(
            "testsuite",
            name=f"re-evaluation against {self.baseline.name}",
            tests=str(len(words)),
            errors="0",
            attrib=said,
        )
        for v in self.verdicts:
            case = ElementTree.SubElement(
                suite, "testcase", classname=v.kind, name=v.subject or v.kind
            )
            if v.word == REGRESSION or (v.word == INCONCLUSIVE and self.strict):
                ElementTree.SubElement(case, "failure", message=v.why, type=v.word).text = _told(v)
            elif v.word == INCONCLUSIVE:
                ElementTree.SubElement(case, "skipped", message=v.why)
            ElementTree.SubElement(case, "system-out").text = _told(v)
        ElementTree.indent(suite)
        return ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)

    def save(self, run: Storage) -> None:
        """verdict.json, verdict.xml (JUnit), verdict.md."""
        run.write(run.path("verdict.json"), f"{json.dumps(self.record(), indent=1)}\n".encode())
        run.write(run.path("verdict.xml"), self.junit())
        run.write(run.path("verdict.md"), self.markdown().encode())


def _told(v: Verdict) -> str:
    return (
        f"worse by {v.mean:+.4f} [{v.low:+.4f}, {v.high:+.4f}], tolerance {v.tolerance:g}, "
        f"{v.n} images"
    )
