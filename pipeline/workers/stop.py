"""Reasons to end a run early: SIGTERM, Ctrl-C, a time limit."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self


class Stop:
    """A context in which signals ask for an orderly end; a second one ends at once.

    `reason` says what asked first, if anything has. Elsewhere than in the main thread, where Python
    takes no signals, only the time limit counts.
    """

    def __init__(self, time_limit_s: float | None = None, *, grace_s: float = 0.0):
        """The limit is kept with the grace in it: work ends `grace_s` before."""
        self._signal: str | None = None
        self._until = None if time_limit_s is None else time.monotonic() + time_limit_s - grace_s
        self._limit = time_limit_s
        self._before: dict[int, Any] = {}

    @property
    def reason(self) -> str | None:
        """What asked for the end."""
        if self._signal is None and self._until is not None and time.monotonic() > self._until:
            return f"the time limit of {self._limit:g} s"
        return self._signal

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._asked)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ask(self, reason: str) -> None:
        """Ask for an orderly end, unless somebody has."""
        self._signal = self._signal or reason

    def again(self) -> None:
        """Take the signals back from whoever has taken them since, as starting Ray does."""
        for number in self._before:
            signal.signal(number, self._asked)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if self._signal is not None:
            raise KeyboardInterrupt(name)
        self._signal = name
