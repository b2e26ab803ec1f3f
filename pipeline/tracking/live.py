"""Follow a run while it works: what <out>/progress.json says, as often as it says something new.

A thread of its own, so that neither a slow tracker nor a slow store ever keeps the driver waiting.
"""

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.rows import Storage

EVERY_S = 5.0
PATIENCE_S = 60.0
"""How long a tracker may take to hear the last word."""


class Follower(threading.Thread):
    """Tells what is new until it is left."""

    def __init__(
        self, out: str, tell: Callable[[Mapping[str, Any]], None], every_s: float = EVERY_S
    ):
        super().__init__(name="tracking", daemon=True)
        self._place, self._tell, self._every_s = Storage(out), tell, every_s
        self._over = threading.Event()
        self._seen = self._read()  # an earlier run's

    def run(self) -> None:
        """Until `leave`, and once more."""
        while not self._over.wait(self._every_s):
            self._look()
        self._look()

    def leave(self) -> bool:
        """Hear the last word; False where the tracker does not answer."""
        self._over.set()
        self.join(PATIENCE_S)
        return not self.is_alive()

    def _look(self) -> None:
        content = self._read()
        if content and content != self._seen:
            self._seen = content
            self._tell(json.loads(content))

    def _read(self) -> bytes:
        try:
            content: Any = self._place.fs.cat_file(self._place.path("progress.json"))
        except Exception:  # not there yet, or a store that does not answer: look again
            return b""
        return content
