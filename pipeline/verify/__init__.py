"""Whether a run directory is whole: what it was asked for, by its own account, against its rows.

Each part says with which settings it was made, so every sweep that has rows is known, and
<out>/config.yaml says what was accepted last. No model is needed: content addresses are those that
the parts name.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.build import dataset
from pipeline.rows import Committed, RunDir
from pipeline.rows.committed import Found
from pipeline.verify.sweeps import Survey, Sweep, accepted_last, surveyed, sweeps

EXAMPLES = 10


@dataclass
class Tally:
    """How many of something there are, and a few of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, count: int, example: str) -> None:
        """Count some more."""
        self.count += count
        if count and len(self.examples) < EXAMPLES:
            self.examples.append(example)


@dataclass
class Verdict:
    """What is wrong with the rows of one kind, of so many expected."""

    kind: str
    expected: int = 0
    missing: Tally = field(default_factory=Tally)
    duplicate: Tally = field(default_factory=Tally)
    failed: Tally = field(default_factory=Tally)
    foreign: Tally = field(default_factory=Tally)
    unreadable: Tally = field(default_factory=Tally)
    staged: Tally = field(default_factory=Tally)

    def wrong(self) -> dict[str, Tally]:
        """Everything that keeps a run from being whole."""
        names = ("missing", "duplicate", "failed", "foreign", "unreadable")
        return {name: getattr(self, name) for name in names}

    def tallies(self) -> dict[str, Tally]:
        """What is wrong, and what waits."""
        return self.wrong() | {"staged": self.staged}


def verify(run: RunDir, plugins: Sequence[str] = ()) -> Verdict:
    """Read every byte of every part and index every data set. Raises UsageError where a data set
    is not there; `plugins`: packages whose classes the settings may name."""
    surveys = run.look(lambda path: surveyed(run, path))
    known = sweeps(surveys, accepted_last(run))
    names = {(print_, facet): name for s in known for name, print_, facet in s.wanted}
    verdict = Verdict(run.kind.folder)
    readable = [s.name for s in surveys if not s.trouble]
    committed = Committed.read(run, list(names), names=readable)
    absent = committed.shards
    for shard, keys, wanted_nW in _expected(known, list(names), plugins):
        _compare(verdict, shard, keys, wanted_nW, committed.of(shard, keys), list(names.items()))
        absent.discard(shard)
    for shard in sorted(absent):
        rows = committed.of(shard, []).strange
        verdict.foreign.add(rows, f"{shard}: {rows} rows of a shard that is not in the data set")
    _account(verdict, surveys, names)
    _files(verdict, run)
    return verdict


def _expected(
    known: Sequence[Sweep], pairs: Sequence[tuple[str, Any]], plugins: Sequence[str]
) -> Iterator[tuple[str, pa.Array, np.ndarray]]:
    """Shard after shard its keys and the rows wanted of each, over all sweeps together."""
    number = {pair: j for j, pair in enumerate(pairs)}
    datasets: dict[str, tuple[Mapping[str, Any], np.ndarray]] = {}
    for sweep in known:
        text = json.dumps(sweep.dataset, sort_keys=True)
        _, wanted_W = datasets.setdefault(text, (sweep.dataset, np.zeros(len(pairs), bool)))
        wanted_W[[number[print_, facet] for _, print_, facet in sweep.wanted]] = True
    shards: dict[str, list[tuple[pa.Array, np.ndarray]]] = defaultdict(list)
    for node, wanted_W in datasets.values():
        refs = dataset({"dataset": node, "plugins": plugins}).index()
        for shard, of_shard in groupby(refs, key=lambda ref: ref.shard):
            shards[shard].append((pa.array([r.key for r in of_shard], pa.string()), wanted_W))
    for shard, asked in shards.items():
        keys = pc.unique(pa.chunked_array([keys for keys, _ in asked], pa.string()))
        wanted_nW = np.zeros((len(keys), len(pairs)), bool)
        for some, wanted_W in asked:
            wanted_nW[np.asarray(pc.index_in(some, value_set=keys))] |= wanted_W
        yield shard, keys, wanted_nW


def _compare(
    verdict: Verdict,
    shard: str,
    keys: pa.Array,
    wanted_nW: np.ndarray,
    found: Found,
    names: Sequence[tuple[tuple[str, Any], str]],
) -> None:
    """Count what is wrong with one shard."""
    verdict.expected += int(wanted_nW.sum())
    for tally, wrong_nW in (
        (verdict.missing, wanted_nW & ~found.done_nW),
        (verdict.duplicate, np.maximum(found.rows_nW - 1, 0)),
        (verdict.failed, found.failed_nW),
    ):
        tally.count += int(wrong_nW.sum())
        for i, j in np.argwhere(wrong_nW)[: EXAMPLES - len(tally.examples)].tolist():
            (_, facet), method = names[j]
            tally.examples.append(f"{shard} {keys[i]} {method} {facet}")
    rows = found.strange
    verdict.foreign.add(rows, f"{shard}: {rows} rows of samples that are not in the data set")


def _account(
    verdict: Verdict, surveys: Sequence[Survey], names: Mapping[tuple[str, Any], str]
) -> None:
    """What whole parts say: damaged ones, rows that no settings ask for, reasons of failures."""
    reasons: Counter[str] = Counter()
    for survey in surveys:
        verdict.unreadable.add(bool(survey.trouble), survey.trouble)
        for (print_, facet), rows in survey.pairs.items():
            if (print_, facet) not in names:
                what = f"{survey.name}: {rows} rows of {print_} {facet}, which no settings name"
                verdict.foreign.add(rows, what)
        reasons += survey.reasons
    if verdict.failed.count:
        most = reasons.most_common(EXAMPLES)
        verdict.failed.examples = [f"{rows} rows: {reason}" for reason, rows in most]


def _files(verdict: Verdict, run: RunDir) -> None:
    """Files among the parts that are none, and what waits in staging. Names with a dot in front
    are writes that were interrupted, which nobody reads."""
    folder = run.kind.folder
    for name in run.names(folder):
        if not name.startswith(".") and not name.endswith(".parquet"):
            verdict.foreign.add(1, f"{folder}/{name} is no part")
    for path in run.fs.find(run.path("staging", folder)):
        name = path.rpartition("/")[2]
        if name.endswith(".parquet") and not name.startswith("."):
            verdict.staged.add(1, path)
