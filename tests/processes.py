"""Jobs as processes of their own, as users start them, and one Ray for many of them.

They are forked from a process that has imported what jobs import, which would take each of them
longer than its work. `test_commands` starts some by `python -m` all the same.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import tempfile
from contextlib import chdir, suppress
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
IMPORTED = ["pytest", "jobs.evaluate", "jobs.undesirable", "jobs.aggregate", "jobs.reevaluate"]
LIMIT_S = 500.0
forks = multiprocessing.get_context("forkserver")
RAY = {"RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"}
"""Read by Ray as it is imported: to join one that has a token, it must be said; and what a test
waits for is not to be slower than what runs beside it."""


class Started:
    """A job under way, with the methods of Popen that tests need; output is what it has said."""

    def __init__(self, name: str, *arguments: str, cwd: Path = ROOT, env: dict | None = None):
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name) / stream for stream in ("stdout", "stderr")]
        asked = ([name, *arguments], str(cwd), os.environ | RAY | (env or {}), self._said)
        self._process = fork(_job, *asked)
        self.pid: int = self._process.pid  # type: ignore[assignment]

    @property
    def stdout(self) -> str:
        """So far."""
        return self._said[0].read_text()

    @property
    def stderr(self) -> str:
        """So far."""
        return self._said[1].read_text()

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float = LIMIT_S) -> str:
        """Until it ends: all that it said."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise TimeoutExpired("job", timeout, self.stdout + self.stderr)
        return self.stdout + self.stderr

    def signal(self, number: int) -> None:
        """Send one."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """At once."""
        self.signal(signal.SIGKILL)
        self._process.join()


def job(
    name: str, *arguments: str, check: bool = True, cwd: Path = ROOT, env: dict | None = None
) -> CompletedProcess:
    """Run `pixel-quorum <name>`; where it fails, show what it said."""
    started = Started(name, *arguments, cwd=cwd, env=env)
    said = started.wait()
    assert not check or started.returncode == 0, said
    return CompletedProcess(arguments, started.returncode or 0, started.stdout, started.stderr)


def ray_cluster():
    """The address of a Ray on this machine that stays for many jobs, then its end: a generator."""
    for _ in range(3):  # where a machine has too much to do, Ray gives itself up
        mine, its = forks.Pipe()
        process = fork(_ray, its)
        its.close()
        with suppress(EOFError):
            address = mine.recv()
            break
    else:
        raise RuntimeError("cannot start Ray")
    yield address
    mine.close()
    process.join(60)


def fork(function, *arguments) -> multiprocessing.process.BaseProcess:
    """A process that calls a function of this module."""
    process = forks.Process(target=function, args=arguments)
    with chdir(ROOT), patch.dict(os.environ, RAY):  # for the process that is forked from
        forks.set_forkserver_preload(IMPORTED)
        process.start()
    return process


def _job(arguments: list[str], cwd: str, env: dict[str, str], said: list[Path]) -> None:
    from jobs.__main__ import main

    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    atexit._clear()  # what is inherited is for the other process to end: wandb's folder, say
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:0] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["pixel-quorum", *arguments]
    try:
        main()
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing leave out


def _ray(tests) -> None:
    import ray

    from pipeline.workers.cluster import session

    with session({"address": None}, lambda text: None):
        tests.send(ray.get_runtime_context().gcs_address)
        with suppress(EOFError):
            tests.recv()
