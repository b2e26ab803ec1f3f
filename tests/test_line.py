"""An actor's inner life with a toy study: no model, no Ray."""

import threading
import time

import pytest
from synthetic import curve, made

from pipeline.data import SampleRef
from pipeline.rows import RunDir, Writer, storage
from pipeline.rows.writer import register, take_over, writers
from pipeline.studies.curves.rows import CURVES
from pipeline.workers import line as module
from pipeline.workers.lease import Asked, Lease
from pipeline.workers.line import Line

WANTED = [("moxi", "insertion")]


class Toy:
    """Images are read at once, unless `gate` holds them up; a key that begins with x is bad."""

    def __init__(self):
        self.read_keys: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.order_fingerprints = {}
        self.kind = CURVES

    def read(self, ref, wanted, known):
        self.read_keys.append(ref.key)
        if ref.key.startswith("x"):
            raise ValueError("no image")
        assert self.gate.wait(20)
        return ref

    def explain(self, ref, wanted, known):
        yield from ()
        return [curve(ref.key, "f")]

    def failures(self, shard, key, wanted, error):
        return [curve(key, "f", status="failed", error=str(error))]


class Idle:
    """An engine for tasks that ask for nothing."""

    def __init__(self):
        from pipeline.engine import Counters

        self.counters = Counters()

    def add(self, task, done):
        try:
            next(task)
        except StopIteration as stop:
            done(stop.value)

    def step(self):
        return False


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "FIRST_PAUSE_S", 0.0)
    return RunDir(str(tmp_path), CURVES)


def line(run: RunDir, work: Toy, in_engine: int = 2) -> Line:
    writer = Writer(run, register(run), made("f"))
    found = Line(
        {0: work},  # type: ignore[dict-item]
        {},
        Idle(),  # type: ignore[arg-type]
        writer,
        in_engine=in_engine,
        threads=1,
        deadline_s=60,
        fatal=pytest.fail,
    )
    found.start()
    return found


def leases(keys) -> list[Lease]:
    asked = [Asked(0, WANTED)]
    return [Lease((0, i), SampleRef(shard="s.tar", url="", key=k), asked) for i, k in keys]


def images(n: int) -> list[Lease]:
    return leases([(i, f"{i:03}") for i in range(n)])


def reported(one: Line, n: int) -> list:
    """Images that are reported until there are so many."""
    found, until = [], time.monotonic() + 20
    while len(found) < n and time.monotonic() < until:
        one.wait(low=10**6, patience_s=0.2)
        found += one.report().done
    return found


def test_images_become_durable_rows_and_each_is_told_once(run):
    one = line(run, Toy())
    one.put(images(30))
    assert sorted(reported(one, 30)) == [(0, i) for i in range(30)]
    assert one.report().done == [] and one.report().in_flight == 0
    one.close()
    assert sorted(run.read(["key"])["key"].to_pylist()) == [f"{i:03}" for i in range(30)]
    assert writers(run) == []


def test_no_more_than_the_window_are_under_way_and_first_come_first_begun(run):
    work = Toy()
    work.gate.clear()
    one = line(run, work)
    one.put(images(30))
    time.sleep(0.2)
    report = one.report()
    assert report.in_flight == one.window < 30 and report.done == []
    assert report.oldest[0] == (0, 0) and report.oldest[1] > 0.1
    assert one.drain() == [(0, i) for i in range(one.window, 30)]
    work.gate.set()
    done = reported(one, one.window)
    assert sorted(done) == [(0, i) for i in range(one.window)]
    assert work.read_keys == [f"{i:03}" for i in range(one.window)]
    one.close()


def test_what_cannot_be_read_is_a_failed_row_with_its_reason(run):
    one = line(run, Toy())
    one.put(leases([(0, "a"), (1, "x"), (2, "b")]))
    one.wait(low=0, patience_s=10)
    report = one.report()
    assert sorted(report.done) == [(0, 0), (0, 1), (0, 2)]
    assert report.cells[0].failures == {"no image": 1}
    one.close()
    assert run.read(["status"])["status"].to_pylist().count("failed") == 1


def test_one_waits_for_the_low_mark_or_until_time_is_up(run):
    work = Toy()
    work.gate.clear()
    one = line(run, work)
    one.put(images(4))
    began = time.monotonic()
    one.wait(low=4, patience_s=0.3)
    assert 0.25 < time.monotonic() - began < 5
    work.gate.set()
    one.wait(low=0, patience_s=10)
    assert len(one.report().done) == 4
    one.close()


def test_a_slow_store_gets_larger_groups_and_loses_nothing(run, monkeypatch):
    before, sizes = Writer.stage, []

    def slow(self, rows, *more):
        time.sleep(0.1)
        sizes.append(len(rows))
        before(self, rows, *more)

    monkeypatch.setattr(Writer, "stage", slow)
    one = line(run, Toy(), in_engine=64)
    one.put(images(60))
    assert len(reported(one, 60)) == 60
    assert sum(sizes) == 60 and len(sizes) < 20
    one.close()


def test_rows_are_sealed_when_there_are_many_or_time_has_passed(run, monkeypatch):
    monkeypatch.setattr(module, "ROWS_PER_PART", 10)
    one = line(run, Toy(), in_engine=1)
    one.put(images(40))
    assert len(reported(one, 40)) == 40
    assert one.report().sealed >= 1 and run.sealed()
    one.close()
    monkeypatch.setattr(module, "FIRST_PART_S", 0.1)
    one = line(run, Toy())
    one.put(leases([(0, "z")]))
    time.sleep(0.6)
    assert one.report().sealed == 1
    one.close()


def test_a_store_that_refuses_is_told_and_its_images_are_not_done(run, monkeypatch):
    one = line(run, Toy())

    def full(self, path, content):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(type(run), "write", full)
        one.put(images(3))
        one.wait(low=0, patience_s=10)
        report = one.report()
        assert str(report.refused) == "no space left" and report.done == []
        one.close()
    assert take_over(run, one.writer.name) == set()  # nothing was durable


def test_a_writer_that_was_taken_over_says_so(run):
    one = line(run, Toy())
    one.put(images(1))
    one.wait(low=0, patience_s=10)
    assert take_over(run, one.writer.name) == {("s.tar", "000", "f", "insertion")}
    one.put(leases([(1, "late")]))
    one.wait(low=0, patience_s=10)
    one._rows.put(None)
    one._committer.join()
    with pytest.raises(Exception, match="was taken over"):
        one.writer.close()
    assert run.read(["key"])["key"].to_pylist() == ["000"]
