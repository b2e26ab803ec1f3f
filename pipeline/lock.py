"""One driver a run directory: a lock that beats, on whatever file system holds the run.

    <out>/lock/000007.json    generation 7: who holds it and a counter, rewritten at every beat

Whoever made the highest generation holds the lock. Generations are made create-only, so of many
that try for the next one wins. It may be tried for once the highest is released, its process is
known to be dead, or its content has not changed for `expiry_s` of the waiter's own clock: clocks
need not agree. A holder that was silent for so long finds a higher generation, and must stop.
"""

import json
import logging
import os
import re
import shlex
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline import RunError, UsageError
from pipeline.redaction import redacted
from pipeline.rows.storage import Storage, retried

logger = logging.getLogger(__name__)

GENERATION = re.compile(r"(\d{6,})\.json")


class Lock:
    """A context in which nobody else's Lock on the same folder is held.

    Waits up to `wait_s`, saying once for whom, then raises UsageError.
    """

    def __init__(
        self,
        place: Storage,
        *,
        wait_s: float,
        beat_s: float = 5.0,
        expiry_s: float = 30.0,
        say: Callable[[str], None] = print,
    ):
        self.place, self.say = place, say
        self.wait_s, self.beat_s, self.expiry_s = wait_s, beat_s, expiry_s
        self._me: dict[str, Any] = {
            "token": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "started": started(os.getpid()),
            "since": datetime.now(UTC).isoformat(" ", "seconds"),
            "command": redacted(shlex.join(sys.orig_argv)),
            "beats": 0,
            "released": False,
        }
        self._number = 0
        self._renewed = 0.0
        self._taker: dict[str, Any] | None = None
        self._trouble: Exception | None = None
        self._busy = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._number = self._acquire()
        except OSError as error:
            raise UsageError(
                f"out={self.place.out} cannot be written ({error}); mend it or give another out="
            ) from None
        self._renewed = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._taker is None:
            try:
                retried(partial(self._write, released=True))
            except Exception as trouble:
                logger.warning("%s is not released, it will expire: %s", self._path(), trouble)

    def check(self) -> None:
        """Raise RunError if another run holds the lock by now, or might.

        Looks for itself where the heartbeat is late, as in a process that was suspended.
        """
        if self._taker is None and time.monotonic() - self._renewed > 2 * self.beat_s:
            self._renew()
        if self._taker is not None:
            raise RunError(
                f"out={self.place.out} was taken over by {_who(self._taker)} while this run was "
                "silent; what is committed stays: run the same command to do the rest"
            )
        if (silent := time.monotonic() - self._renewed) > self.expiry_s:
            raise RunError(
                f"out={self.place.out}: its lock could not be renewed for {silent:.0f} s "
                f"({self._trouble}); run the same command to do the rest"
            )

    def _acquire(self) -> int:
        """Wait for the lock, take it, return its generation."""
        began = changed = time.monotonic()
        seen: tuple[int, bytes] = (0, b"")
        told = False
        while True:
            number, content = retried(self._highest)
            holder, now = _parse(content), time.monotonic()
            if holder.get("token") == self._me["token"]:
                return number
            if (number, content) != seen:
                seen, changed = (number, content), now
            expired = now - changed > self.expiry_s
            if number == 0 or holder.get("released") or _is_dead(holder) or expired:
                self._try(number)
                continue
            used = f"out={self.place.out} is in use by {_who(holder)}"
            if now - began >= self.wait_s:
                raise UsageError(
                    f"{used}, still so after {self.wait_s:g} s: wait longer (lock.wait_s), stop "
                    "that run, or give another out="
                )
            if not told:
                self.say(f"{used}; waiting up to {self.wait_s:g} s (lock.wait_s)")
                told = True
            time.sleep(min(1.0, self.beat_s))

    def _try(self, highest: int) -> None:
        """Make the next generation, unless another has."""
        try:
            retried(partial(self.place.create, self._path(highest + 1), self._content()))
        except FileExistsError:
            pass
        except FileNotFoundError:  # whoever has made one sweeps what is half written
            if self._highest()[0] <= highest:
                raise

    def _beat(self) -> None:
        while not self._stop.wait(self.beat_s):
            self._renew()

    def _renew(self) -> None:
        """Beat unless another has taken over; a store that fails is asked again at the next."""
        with self._busy:
            try:
                number, content = self._highest()
                holder = _parse(content)
                if number >= self._number and holder.get("token") != self._me["token"]:
                    self._taker = holder
                    return
                self._write(beats=self._me["beats"] + 1)
                self._sweep()
                self._renewed = time.monotonic()
            except Exception as error:
                self._trouble = error
                logger.warning("%s could not be renewed: %s", self._path(), error)

    def _highest(self) -> tuple[int, bytes]:
        """The highest generation and what its file says."""
        while numbers := [
            int(match[1])
            for name in self.place.names("lock")
            if (match := GENERATION.fullmatch(name))
        ]:
            with suppress(FileNotFoundError):  # swept since it was listed: there is a higher one
                content: Any = self.place.fs.cat_file(self._path(max(numbers)))
                return max(numbers), content
        return 0, b""

    def _sweep(self) -> None:
        """Remove generations that are over, and what interrupted writes have left."""
        mine = os.path.basename(self._path())
        over = [name for name in self.place.names("lock") if name < mine]
        for name in [*over, *self.place.unfinished("lock")]:
            with suppress(FileNotFoundError):
                self.place.fs.rm_file(self.place.path("lock", name))

    def _write(self, **said: Any) -> None:
        self._me |= said
        self.place.write(self._path(), self._content())

    def _content(self) -> bytes:
        return json.dumps(self._me, indent=1).encode()

    def _path(self, number: int | None = None) -> str:
        return self.place.path("lock", f"{number or self._number:06d}.json")


def _parse(content: bytes) -> dict[str, Any]:
    """What a file says; nothing where it is being written at this moment."""
    try:
        return json.loads(content)
    except ValueError:
        return {}


def _who(holder: dict[str, Any]) -> str:
    if not holder:
        return "another run"
    return f"{holder['host']} pid {holder['pid']} since {holder['since']}"


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    here = (socket.gethostname(), _machine())
    if None in here or (holder.get("host"), holder.get("machine")) != here:
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, or its number does, as somebody else's
        return False
    return started(holder["pid"]) != holder["started"]


def _machine() -> str | None:
    """What pids are unique in: one boot of a machine and a namespace; None if it does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def started(pid: int) -> str | None:
    """When a process began, which tells it from another of the same pid; None if it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]
