"""What the driver does when actors die, stores fail, somebody says stop; no Ray, no processes."""

import errno
from collections import Counter
from concurrent.futures import Future
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from conftest import write_tar
from crew import Crew
from ray.exceptions import RayActorError, RayTaskError
from synthetic import curve

from pipeline import RunError, UsageError
from pipeline.data.shards import Shards
from pipeline.engine import Counters
from pipeline.rows import Committed, RunDir, storage
from pipeline.studies.curves.rows import CURVES
from pipeline.workers import crew as crews
from pipeline.workers import driver as module
from pipeline.workers.backlog import Backlog
from pipeline.workers.cluster import Group, Plan
from pipeline.workers.driver import Driver
from pipeline.workers.families import Selection
from pipeline.workers.lease import Cell, Report, Tally

DEATH = RayActorError(error_msg="killed")


class Toy(SimpleNamespace):
    kind = CURVES
    wanted = [("moxi", "insertion")]
    fingerprints = {"moxi": "f"}
    order_fingerprints: dict = {}

    def forwards(self, wanted, known):
        return 1

    def failures(self, shard, key, wanted, error):
        return [curve(key, "f", status="failed", error=error)]


@pytest.fixture
def make(monkeypatch, tmp_path):
    """A driver of so many images; its actors are up and never answer by themselves."""
    monkeypatch.setattr(module, "provenance", lambda *_: {})
    monkeypatch.setattr(storage, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setenv("PIXEL_QUORUM_CACHE", str(tmp_path / "cache"))

    def made(images: int, actors: int = 1, window: int = 64, up: bool = True) -> Driver:
        tar = write_tar(tmp_path / "s.tar", {f"{i:03}.jpg": b"x" for i in range(images)})
        work = Toy(data=Shards(name="toy", shards=str(tar)))
        selection = Selection((0,), work.data.indexed())
        backlog = Backlog({0: work}, Committed(1, {}), [selection])  # type: ignore[dict-item]
        backlog.scan()
        cluster = {"tries": 3, "image_deadline_s": 60, "grace_s": 5, "placement_timeout_s": 60}
        settings = {"out": str(tmp_path / "run"), "cluster": cluster}
        stop = SimpleNamespace(reason=None)
        cells = {0: Cell(settings=settings, work=work)}  # type: ignore[arg-type]
        driver = Driver(cells, backlog, Mock(), Mock(), stop)  # type: ignore[arg-type]
        driver.crew = Crew()  # type: ignore[assignment]
        driver.plan = Plan(groups=(Group(actors=actors, resources={}),), threads=1)
        driver.health = SimpleNamespace(check=lambda: frozenset(), stop=Mock())  # type: ignore
        driver._started = 0.0
        driver._tick()
        if up:
            for name in list(driver.crew.members):
                rise(driver, name, window)
        return driver

    return made


def answer(driver: Driver, name: str, event: str, what) -> None:
    """An actor answers, with an error where it is one."""
    future: Future = Future()
    if isinstance(what, BaseException):
        future.set_exception(what)
    else:
        future.set_result(what)
    driver._heard(driver.crew.members[name], event, future)


def rise(driver: Driver, name: str, window: int) -> None:
    answer(driver, name, "ready", (window, "node", "host"))


def report(*done: int, refused: Exception | None = None, failed: str = "") -> Report:
    return Report(
        done=[(0, place) for place in done],
        cells={0: Tally(len(done), Counter({failed: 1} if failed else {}))},
        in_flight=0,
        oldest=None,
        old=[],
        counters=Counters(),
        seconds=1.0,
        sealed=0,
        refused=refused,
    )


def row(key: str) -> tuple:
    """The identity of an image's row."""
    return ("s.tar", key, "f", "insertion")


def given(driver: Driver) -> dict[str, list[int]]:
    return {name: driver.crew.given[name] for name in driver.crew.members}  # type: ignore


def test_suspects_share_an_actor_and_no_innocent_joins_them(make):
    driver = make(images=12, actors=2, window=4)
    assert given(driver) == {"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]}
    answer(driver, "a", "exchange", DEATH)
    driver._tick()
    rise(driver, "c", 4)
    assert given(driver) == {"b": [4, 5, 6, 7], "c": [0, 1, 2, 3]}
    answer(driver, "c", "exchange", DEATH)
    driver._tick()
    rise(driver, "d", 4)
    assert given(driver)["d"] == [0, 1]  # the other half waits
    answer(driver, "d", "exchange", report(0, 1))
    assert given(driver)["d"] == [0, 1, 2, 3]


def test_what_was_durable_is_not_computed_again(make):
    driver = make(images=4, window=4)
    driver.crew.durable["a"] = {row("001"), row("003")}
    answer(driver, "a", "exchange", DEATH)
    driver._tick()
    rise(driver, "b", 4)
    assert given(driver) == {"b": [0, 2]} and driver.schedule.done == 2


def test_a_poison_becomes_failed_rows(make):
    driver = make(images=1)
    for name in "abc":
        answer(driver, name, "exchange", DEATH)
        if name != "c":
            driver._tick()
            rise(driver, "bcd"["abc".index(name)], 4)
    assert driver.finished and driver.schedule.done == 1
    (found,) = RunDir(driver.run.out, CURVES).read(["key", "error"]).to_pylist()
    assert found == {"key": "000", "error": "its worker process died 3 times: killed"}
    assert sum(driver.crew.spent.failures.values()) == 1


def test_a_node_that_died_makes_nobody_suspect(make):
    driver = make(images=4, window=4)
    gone = RayActorError(error_msg="The actor died because its node has died.")
    answer(driver, "a", "exchange", gone)
    assert not driver.schedule.suspects and driver.schedule.waiting == 4


def test_early_deaths_count_in_a_row_and_only_while_nobody_works(make):
    driver = make(images=9, actors=2, up=False)
    for name in "ab":
        answer(driver, name, "ready", DEATH)
    driver._tick()
    with pytest.raises(RunError, match="workers cannot start: killed"):
        answer(driver, "c", "ready", DEATH)
    driver = make(images=90, actors=2, up=False)
    rise(driver, "a", 1)  # this one works
    for name, left in (("b", 2), ("c", 2), ("d", 1)):
        answer(driver, name, "ready", DEATH)
        driver._tick()
        assert len(driver.crew.members) == left


def test_an_actor_that_becomes_ready_ends_a_row_of_early_deaths(make):
    driver = make(images=900, up=False)
    names = iter("abcdefghijklmnopqrstuvwxyz")
    for _ in range(5):
        for _ in range(2):
            answer(driver, next(names), "ready", DEATH)
            driver._tick()
        name = next(names)
        rise(driver, name, 1)
        answer(driver, name, "exchange", DEATH)
        driver._tick()


def refusal(cause: Exception) -> RayTaskError:
    return RayTaskError("exchange", "traceback", cause)


BUSY = OSError(errno.EBUSY, "SlowDown")


def test_an_actor_that_cannot_commit_is_replaced_and_its_images_go_back(make, caplog):
    driver = make(images=4, actors=2, window=2)
    answer(driver, "a", "exchange", report(refused=BUSY))
    driver._tick()
    rise(driver, "c", 2)
    assert given(driver) == {"b": [2], "c": [0, 1]} and not driver.schedule.suspects
    assert "could not commit and is replaced: [Errno 16] SlowDown" in caplog.text


def test_actors_that_can_never_commit_end_the_run_with_the_reason(make):
    driver = make(images=64, actors=1)
    names = iter("abcdefgh")
    for name in (next(names), next(names)):
        answer(driver, name, "exchange", report(refused=OSError("no space left")))
        driver._tick()
        rise(driver, chr(ord(name) + 1), 64)
    answer(driver, "c", "exchange", report(0))  # the store is well for a moment
    for name in "cd":
        answer(driver, name, "exchange", report(refused=OSError("no space left")))
        driver._tick()
        rise(driver, chr(ord(name) + 1), 64)
    with pytest.raises(RunError, match="a worker cannot go on: no space left"):
        answer(driver, "e", "exchange", report(refused=OSError("no space left")))


def test_settings_that_a_worker_refuses_end_the_run(make):
    driver = make(images=4, up=False)
    with pytest.raises(UsageError, match="a worker cannot go on: grid=9"):
        answer(driver, "a", "ready", refusal(UsageError("grid=9")))


def test_a_silent_actor_is_ended(make, monkeypatch):
    driver = make(images=4, window=4)
    later = driver.schedule.seats["a"].heard + 61
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    driver._tick()
    assert driver.crew.ended == ["a"]
    assert len(driver.schedule.suspects) == 1


def test_a_stop_waits_for_what_is_under_way(make):
    driver = make(images=100, window=4)
    answer(driver, "a", "exchange", report(0, 1))
    driver.stop.reason = "SIGTERM"
    driver._tick()
    assert driver.crew.drained == ["a"]
    answer(driver, "a", "drained", list(driver.schedule.seats["a"].held)[4:])
    assert not driver._over()
    before = list(driver.crew.given["a"])
    held = [place for _, place in driver.schedule.seats["a"].held]
    assert len(held) <= 4
    answer(driver, "a", "exchange", report(*held))
    assert driver._over() and not driver.finished
    assert driver.crew.given["a"] == before


def test_a_stop_ends_when_the_grace_is_over(make, monkeypatch):
    driver = make(images=100, window=4)
    driver.stop.reason = "Ctrl-C"
    driver._tick()
    assert not driver._over()
    later = module.time.monotonic() + 6
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert driver._over()


def test_a_node_that_is_about_to_go_is_left(make):
    driver = make(images=100, actors=2, window=4)
    driver.health.check = lambda: frozenset({"node"})
    driver.crew.members["b"].node = "another"
    driver._tick()
    assert driver.schedule.seats["a"].leaving and not driver.schedule.seats["b"].leaving
    answer(driver, "a", "drained", list(driver.schedule.seats["a"].held)[4:])
    held = [place for _, place in driver.schedule.seats["a"].held]
    answer(driver, "a", "exchange", report(*held))
    assert driver.crew.closed == ["a"] and "a" not in driver.schedule.seats
    driver._tick()
    assert "c" in driver.crew.members  # another in its place


def test_nothing_is_sealed_once_the_lock_is_lost(make, monkeypatch):
    driver = make(images=4)
    crew, health, places = driver.crew, driver.health, driver.plan
    monkeypatch.setattr(module, "plan", lambda cluster: places)
    monkeypatch.setattr(module, "Crew", lambda *_: crew)
    monkeypatch.setattr(module, "Health", lambda: health)
    driver.check, driver._ticked = Mock(side_effect=RunError("taken over")), 0.0
    with pytest.raises(RunError, match="taken over"):
        driver.evaluate()
    assert crew.closed == crew.ended == [] and not crew.members
    health.stop.assert_called_once()


def test_failures_and_counters_survive_the_actor(make):
    driver = make(images=4, window=4)
    answer(driver, "a", "exchange", report(0, failed="no image"))
    answer(driver, "a", "exchange", DEATH)
    assert driver.status().failures == {"no image": 1}
    assert driver.status().done == 1


@pytest.mark.parametrize("how", ["told", "durable"])
def test_what_an_actor_did_last_is_counted_when_the_grace_is_over(make, how):
    driver = make(images=4, window=4)
    did = {"told": [(0, 1), (0, 3)], "durable": {row("001"), row("003")}}
    setattr(driver.crew, how, {"a": did[how]})
    driver._close(list(driver.crew.members.values()))
    assert driver.schedule.done == 2 and not driver.finished


def test_an_answer_that_nobody_heard_is_heard_when_its_actor_is_closed(tmp_path, monkeypatch):
    said = {"asked before": report(0, 1), "close": report(2)}
    monkeypatch.setattr(crews.ray, "wait", lambda calls, **_: (calls, []))
    monkeypatch.setattr(crews.ray, "get", said.pop)  # each is heard once
    monkeypatch.setattr(crews.ray, "kill", Mock())
    crew = crews.Crew(RunDir(str(tmp_path), CURVES), {}, Plan(groups=(), threads=1))
    member = crews.Member("a", Mock(), Group(actors=1, resources={}), 0.0, up=True)
    member.call = "asked before"
    member.handle.close.remote.return_value = "close"
    crew.members["a"] = member
    assert crew.close([member]) == {"a": crews.Left([(0, 0), (0, 1), (0, 2)], set())}
    assert crew.spent.tally(0).rows == 3 and not crew.members
