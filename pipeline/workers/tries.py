"""Deaths that images are suspected of, remembered in the run directory across drivers."""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from pipeline.rows import Storage
from pipeline.rows.storage import retried
from pipeline.workers.backlog import Backlog
from pipeline.workers.schedule import Image, Span
from pipeline.workers.suspects import Suspects

FILE = "suspects.json"
Group = tuple[list[tuple[str, str]], int]
"""Suspects by shard and key, and the deaths of one that was alone."""


class Tries:
    """Keeps suspects where the next driver finds them: <out>/suspects.json."""

    def __init__(self, run: Storage, suspects: Suspects[Image], backlog: Backlog):
        self.run, self.suspects, self.backlog = run, suspects, backlog
        self._path = run.path(FILE)
        self._before: list[Group] = self._read()
        self._kept = bool(self._before)

    def keep(self) -> None:
        """Write down who is suspected."""
        place, deaths = self.backlog.place, self.suspects.deaths
        groups = [([place(i) for i in group], 0) for group in self.suspects if len(group) > 1]
        alone = [([place(image)], count) for image, count in deaths.items()]
        if self._kept or groups or alone:
            content = json.dumps([*groups, *alone, *self._before])
            retried(partial(self.run.write, self._path, content.encode()))
            self._kept = True

    def without_suspects(self, spans: Sequence[Span]) -> Iterable[Span]:
        """Spans less the images that an earlier driver suspected, which become suspects again."""
        if not spans or not self._before:
            return spans
        offered = {image for span in spans for image in span.images()}
        here = {span.shard: self.backlog.shard_name(span.shard) for span in spans}
        taken: set[Image] = set()
        left: list[Group] = []
        for group, deaths in self._before:
            keys = {n: [key for s, key in group if s == shard] for n, shard in here.items()}
            of = [self.backlog.images(number, k) for number, k in keys.items() if k]
            images = [i for found in of for i in found.values() if i in offered - taken]
            self.suspects.add(images, deaths)
            taken.update(images)
            if rest := [(shard, key) for shard, key in group if shard not in here.values()]:
                left.append((rest, deaths))
        self._before = left
        return _less(spans, taken)

    def forget(self) -> None:
        """All is done: nobody is suspected any more."""
        if self._kept:
            self.run.remove(self._path)

    def _read(self) -> list[Group]:
        try:
            content: Any = retried(lambda: self.run.fs.cat_file(self._path))
            found = json.loads(content)
            return [([(str(s), str(k)) for s, k in group], int(n)) for group, n in found]
        except (FileNotFoundError, ValueError, TypeError):  # none, or nothing to be made of it
            return []


def _less(spans: Iterable[Span], images: set[Image]) -> Iterable[Span]:
    """Spans without some images."""
    for span in spans:
        start = span.start
        for place in range(span.start, span.stop):
            if (span.shard, place) in images:
                if place > start:
                    yield span._replace(start=start, stop=place)
                start = place + 1
        if span.stop > start:
            yield span._replace(start=start)
