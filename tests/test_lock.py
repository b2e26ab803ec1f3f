import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest
from conftest import ROOT

from pipeline import RunError, UsageError, lock
from pipeline.lock import Lock
from pipeline.rows.storage import Storage

Quick = partial(Lock, wait_s=20.0, beat_s=0.05, expiry_s=2.0, say=lambda _: None)

HOLD = """
import sys, time
from pipeline.lock import Lock
from pipeline.rows.storage import Storage
with Lock(Storage(sys.argv[1]), wait_s=0, beat_s=0.05, expiry_s=0.5) as lock:
    print("held", flush=True)
    while True:
        time.sleep(0.05)
        lock.check()
"""


@pytest.fixture
def other(tmp_path):
    """A process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


@pytest.fixture(params=["folder", "store"])
def place(request, tmp_path):
    """A run directory, local and in an object store."""
    found = Storage(str(tmp_path) if request.param == "folder" else "memory://locked/run")
    yield found
    if found.names("lock"):
        found.fs.rm(found.path("lock"), recursive=True)


def test_one_at_a_time(tmp_path):
    inside, turns = [], []

    def turn(name: int) -> None:
        with Quick(Storage(str(tmp_path))):
            inside.append(name)
            turns.append(list(inside))
            time.sleep(0.02)
            inside.remove(name)

    threads = [threading.Thread(target=turn, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(t) for t in turns) == [1] * 6


def test_the_second_says_that_it_waits_and_is_refused(place):
    said = []
    with Quick(place) as held:
        with pytest.raises(UsageError, match=rf"is in use by .* pid {os.getpid()} since .*wait_s"):
            Lock(place, wait_s=0.3, beat_s=0.05, expiry_s=20.0, say=said.append).__enter__()
        held.check()
    assert len(said) == 1 and "waiting up to 0.3 s (lock.wait_s)" in said[0]
    with Quick(place) as again:
        time.sleep(0.2)
        again.check()
        assert place.names("lock") == ["000002.json"]  # what is over is swept


def test_what_an_interrupted_write_has_left_is_not_listed_and_is_swept(tmp_path):
    place = Storage(str(tmp_path))
    with Quick(place) as held:
        held._stop.set()
        held._thread.join()
        left = tmp_path / "lock" / f".000001.json.{'0123abcd' * 4}"
        left.touch()
        assert place.names("lock") == ["000001.json"]
        assert place.unfinished("lock")[left.name] == "000001.json"
        held._renew()
        assert not left.exists()


def test_a_holder_that_lives_is_waited_for_beyond_the_expiry(place):
    with Quick(place), pytest.raises(UsageError, match="in use"):
        Quick(place, wait_s=1.5, expiry_s=1.0).__enter__()


def test_a_killed_holder_is_known_to_be_dead(tmp_path, other):
    with pytest.raises(UsageError, match=f"pid {other.pid}"):
        Quick(Storage(str(tmp_path)), wait_s=0).__enter__()
    other.kill()  # and not yet waited for: a zombie
    began = time.monotonic()
    with Quick(Storage(str(tmp_path)), expiry_s=60.0):
        assert time.monotonic() - began < 10


def test_a_holder_elsewhere_is_replaced_when_it_falls_silent(tmp_path, other, monkeypatch):
    monkeypatch.setattr(lock, "_machine", lambda: "another")
    other.kill()
    with Quick(Storage(str(tmp_path)), expiry_s=0.5) as held:
        held.check()


def test_a_pid_that_was_given_to_another_process_is_a_dead_holder(tmp_path):
    place = Storage(str(tmp_path))
    with Quick(place) as one:
        one._stop.set()
        one._thread.join()
        one._write(started="long ago")
        with Quick(place, expiry_s=60.0):
            pass


def test_a_suspended_holder_stops_when_it_wakes(tmp_path, other):
    place = Storage(str(tmp_path))
    other.send_signal(signal.SIGSTOP)
    with Quick(place, expiry_s=0.5) as held:
        other.send_signal(signal.SIGCONT)
        _, said = other.communicate(timeout=20)
        assert f"taken over by {held._me['host']} pid {os.getpid()}" in said
        held.check()


def test_a_lock_that_was_taken_over_says_by_whom(place):
    with Quick(place, expiry_s=0.5) as one:
        one._stop.set()  # silent from here on
        one._thread.join()
        with Quick(place, expiry_s=0.5) as other:
            with pytest.raises(RunError, match=rf"taken over by .* pid {os.getpid()}"):
                one.check()
            other.check()
    assert b'"released": true' in place.fs.cat_file(place.path("lock", place.names("lock")[-1]))


def test_a_lock_that_cannot_be_renewed_counts_as_lost(place, monkeypatch):
    def fail(*_, **__):
        raise OSError("SlowDown")

    with Quick(place, expiry_s=1.0) as held, monkeypatch.context() as patch:
        patch.setattr(Storage, "write", fail)
        time.sleep(0.3)
        held.check()  # it may pass
        time.sleep(1.0)
        with pytest.raises(RunError, match=r"not be renewed .*SlowDown"):
            held.check()


def test_a_generation_swept_while_it_is_made_does_not_count(place, monkeypatch):
    def swept(*_, **__):
        raise FileNotFoundError("no such file")

    late = Quick(place, wait_s=0)
    with Quick(place), monkeypatch.context() as patch:
        real, answers = late._highest, iter([(0, b"")])
        late._highest = lambda: next(answers, None) or real()
        patch.setattr(Storage, "create", swept)
        with pytest.raises(UsageError, match="in use"):
            late.__enter__()
    monkeypatch.setattr(Storage, "create", swept)
    with pytest.raises(UsageError, match="cannot be written"):
        Quick(place, wait_s=0).__enter__()


def test_a_generation_made_too_late_does_not_count(place):
    with Quick(place):
        pass
    with Quick(place):  # generation 2; 1 is swept
        late = Quick(place, wait_s=0)
        time.sleep(0.2)
        real, answers = late._highest, iter([(0, b"")])
        late._highest = lambda: next(answers, None) or real()
        with pytest.raises(UsageError, match="in use"):
            late.__enter__()
