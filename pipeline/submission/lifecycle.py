"""A submission from its first request to its last line, on any back end."""

import time

from pipeline import RunError
from pipeline.rows.storage import retried
from pipeline.submission import Backend, Job, Say, State

SHOWN = 20
"""Last lines of a failed job's log that are shown to who has not followed it."""


def submit(backend: Backend, job: Job, id: str, *, again: bool, say: Say) -> str:
    """Start a job and return the id that it has got, `id` or a later number of it.

    One that waits, runs or has succeeded is found instead, unless it is to run `again`: an id that
    was used once is used up.
    """
    last, state, free = latest(backend, id)
    done = state is not None and (state.phase in ("failed", "stopped") or (again and state.over))
    if state is None or done or backend.standing:
        target = id if backend.standing else free
        backend.check(job, say)
        backend.start(job, target)
        say(f"{target}: submitted")
        return target
    hint = "; again=true runs it once more" if state.over else ""
    say(f"{last}: the same settings and code are {state.phase} already{hint}")
    return last


def latest(backend: Backend, id: str) -> tuple[str, State | None, str]:
    """The last submission of an id with its state, None if there is none; and the next free id."""
    last, state, number = id, None, 1
    while True:
        name = id if number == 1 else f"{id}-{number}"
        found = backend.look(name)
        if found is None:
            return last, state, name
        last, state, number = name, found, number + 1


def wait(backend: Backend, id: str, *, follow: bool, poll_s: float, say: Say) -> State:
    """Wait for a submission's end; `follow` says what it prints. Raises RunError if it is lost."""
    phase, shown = "", 0
    while True:
        state = retried(lambda: backend.look(id))
        if state is None:
            raise RunError(f"{id}: it is gone; somebody has deleted it")
        if state.phase != phase and not state.over:
            say(f"{id}: {state.phase}")
        phase = state.phase
        if follow:
            text = retried(lambda: backend.log(id))
            whole = len(text) if state.over else text.rfind("\n") + 1
            if whole > shown:
                say(text[shown:whole].rstrip("\n"))
                shown = whole
        if state.over:
            _tell_end(backend, id, state, say=say, log=not follow)
            return state
        time.sleep(poll_s)


def stop(backend: Backend, id: str, *, poll_s: float, say: Say) -> State:
    """End a submission and wait until it has. Raises RunError where there is none."""
    last, state, _ = latest(backend, id)
    if state is None:
        raise RunError(f"{id}: nobody has submitted it")
    if state.over and not backend.standing:
        say(told(last, state))
        return state
    backend.stop(last)
    if backend.standing:
        say(f"{last}: removed")
        return State(phase="stopped", code=0)
    return wait(backend, last, follow=False, poll_s=poll_s, say=say)


def told(id: str, state: State) -> str:
    """A line of it."""
    code = "" if state.code is None else f", exit status {state.code}"
    message = f": {state.message}" if state.message else ""
    return f"{id}: {state.phase}{code}{message}"


def _tell_end(backend: Backend, id: str, state: State, *, say: Say, log: bool) -> None:
    if log and state.phase == "failed":
        lines = backend.log(id).rstrip("\n").splitlines()[-SHOWN:]
        for line in lines:
            say(f"  {line}")
    say(told(id, state))
