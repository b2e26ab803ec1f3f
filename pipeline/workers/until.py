"""An end before the last image: images in random order, until a question is decided."""

import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import UsageError
from pipeline.rows import RunDir, parts
from pipeline.statistics.deciding import Answers, Question, written
from pipeline.statistics.decision import Decision, shuffled
from pipeline.statistics.draws import unit
from pipeline.work import Work
from pipeline.workers.backlog import Backlog
from pipeline.workers.lease import Cell
from pipeline.workers.schedule import Image, Span
from pipeline.workers.stop import Stop

logger = logging.getLogger(__name__)

LOOK_S = 3.0
SHARE = 0.1
"""Of the time, at most, that looking takes."""


class Until:
    """Looks at what is durable, again and again, on a thread of its own, and says when it is
    decided; whatever else asks for the end, `stop`, does so too."""

    def __init__(self, run: RunDir, work: Work, asked: Mapping[str, Any], stop: Stop):
        """Raises UsageError for a question that this work cannot answer."""
        self.seed = asked["seed"]
        question = {name: value for name, value in asked.items() if name != "seed"}
        self.answers = Answers(question=Question(**question))
        self.run, self.stop, self.data = run, stop, work.data
        self.prints = {work.fingerprints.get(asked[n]) for n in ("method", "against")}
        for name in ("method", "against"):
            if (asked[name], asked["objective"]) not in work.wanted:
                raise UsageError(
                    f"until.{name}={asked[name]}: methods= has no such method of the objective "
                    f"{asked['objective']}"
                )
        self.decision: Decision | None = None
        self._order: list[tuple[str, ...]] = []
        self._seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="until", daemon=True)

    @property
    def decided(self) -> bool:
        """Whether there is a verdict."""
        return self.decision is not None and self.decision.verdict is not None

    @property
    def reason(self) -> str | None:
        """What asked for the end."""
        return "until=decided" if self.decided else self.stop.reason

    def take(self, backlog: Backlog) -> list[Span]:
        """What there is to do, every image alone, in random order: once all of it is known."""
        if not backlog.complete:
            return []

        def key(image: Image) -> int:
            return unit(self.seed, self.data.name, *backlog.place(image))

        images = sorted((image for span in backlog.take() for image in span.images()), key=key)
        return [Span(shard, number, number + 1) for shard, number in images]

    def begin(self) -> None:
        """Look from now on."""
        self._thread.start()

    def end(self) -> Decision:
        """A last look, once all rows are sealed; <out>/decision.json."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        found = self.look()
        failed = self.answers.failed(self._order)
        said = written(self.answers.question, self.seed, failed, found)
        self.run.write(self.run.path("decision.json"), json.dumps(said, indent=1).encode())
        return found

    def look(self) -> Decision:
        """At rows that are new since the last time. What was decided stays so."""
        if not self._order:
            images = [(self.data.name, ref.shard, ref.key) for ref in self.data.index()]
            self._order = shuffled(images, self.seed)
        names = [name for name in self.run.sealed() if name not in self._seen]
        self.run.each(self.answers.question.columns, self._hear, names)
        self._seen.update(names)
        self._hear_staged()
        found = self.answers.decision(self._order)
        if not self.decided:
            self.decision = found
        assert self.decision is not None
        return self.decision

    def _watch(self) -> None:
        pause = LOOK_S
        while not self._over.wait(pause) and not self.decided:
            began = time.monotonic()
            try:
                self.look()
            except Exception as error:  # a store's hiccup: the last look counts
                logger.warning("until: could not look at the rows: %s", error)
            pause = max(LOOK_S, (time.monotonic() - began) / SHARE)

    def _hear(self, name: str, rows: Any) -> None:
        self.answers.hear(rows.filter([p in self.prints for p in rows["fingerprint"].to_pylist()]))

    def _hear_staged(self) -> None:
        """Groups that writers have not sealed yet; one that is gone meanwhile is sealed now."""
        kind, columns = self.run.kind, self.answers.question.columns
        for writer in self.run.names("staging", kind.folder):
            for file in self.run.names("staging", kind.folder, writer):
                path = self.run.path("staging", kind.folder, writer, file)
                if not file.endswith(".parquet") or path in self._seen:
                    continue
                try:
                    self._hear(file, parts.read(self.run.fs, path, columns))
                except FileNotFoundError:
                    continue
                self._seen.add(path)


def until_of(run: RunDir, cells: Sequence[Cell], stop: Stop) -> Until | None:
    """What ends a run before its last image, where that is asked for. Raises UsageError for several
    cells, which may not agree on the images that are enough."""
    asked = [cell.settings.get("until") or {} for cell in cells]
    if not any(one.get("method") for one in asked):
        return None
    if len(cells) > 1:
        raise UsageError("until: a sweep has one end for all of its cells; leave until.method out")
    return Until(run, cells[0].work, asked[0], stop)
