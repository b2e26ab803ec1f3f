"""What the driver does when actors die and stores fail; no Ray, no processes."""

import errno
from math import log2
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from ray.exceptions import RayTaskError

from pipeline import RunError, UsageError
from pipeline.data import SampleRef
from pipeline.rows import storage
from pipeline.studies.curves.rows import CURVES
from pipeline.workers import driver as module
from pipeline.workers.cluster import Plan
from pipeline.workers.driver import Driver, _Actor
from pipeline.workers.lease import Lease
from pipeline.workers.suspects import Suspects


def row(key: str) -> dict:
    return {
        "dataset": "d",
        "shard": "s",
        "key": key,
        "fingerprint": "f",
        "objective": "insertion",
    }


class Handle:
    """An actor that remembers what it was given."""

    def __init__(self):
        self.given: list[str] = []
        self.evaluate = SimpleNamespace(remote=self._evaluate)

    def _evaluate(self, lease: Lease) -> object:
        self.given.append(lease.ref.key)
        return object()


@pytest.fixture
def make(monkeypatch, tmp_path):
    """A driver of so many images whose actors are ready at once and never answer."""
    monkeypatch.setattr(module, "provenance", lambda *_: {})
    monkeypatch.setattr(module.ray, "kill", Mock())
    monkeypatch.setattr(storage, "FIRST_PAUSE_S", 0.0)

    def made(images: int = 0, actors: int = 1, window: int = 64) -> Driver:
        leases = [
            Lease(SampleRef(shard="s", url="", key=f"{i}"), [("m", "insertion")])
            for i in range(images)
        ]
        work = SimpleNamespace(
            kind=CURVES,
            failures=lambda shard, key, wanted, error: [
                row(key) | {"status": "failed", "error": error}
            ],
        )
        settings = {"out": str(tmp_path), "cluster": {"tries": 3, "image_deadline_s": 60}}
        driver = Driver(settings, work, leases, set(), Mock(), Mock())  # type: ignore[arg-type]
        driver.plan = Plan(actors=actors, threads=1, resources={})
        driver._start = lambda: driver._actors.append(  # type: ignore[method-assign]
            _Actor(handle=Handle(), ready=object(), window=window)
        )
        for _ in range(actors):
            driver._start()
        driver._lease()
        return driver

    return made


def given(driver: Driver) -> list[list[str]]:
    return [actor.handle.given for actor in driver._actors]


DEATH = RuntimeError("killed")


def test_suspects_share_an_actor_and_no_innocent_joins_them(make):
    driver = make(images=12, actors=2, window=4)
    assert [len(keys) for keys in given(driver)] == [4, 4]
    driver._died(driver._actors[0], DEATH)
    driver._lease()
    assert given(driver) == [["4", "5", "6", "7"], ["0", "1", "2", "3"]]
    driver._died(driver._actors[1], DEATH)
    driver._lease()
    assert given(driver) == [["4", "5", "6", "7"], ["0", "1"]]  # the other half waits
    driver._actors[1].leases.clear()
    driver._lease()
    assert given(driver)[1] == ["0", "1", "2", "3"]


def test_a_poison_becomes_failed_rows(make):
    driver = make(images=1)
    for _ in range(3):
        driver._lease()
        driver._died(driver._actors[0], DEATH)
    assert (driver.images, driver.failed_rows) == (1, 1)
    assert not driver.todo and not driver.suspects
    driver._seal(final=True)
    (found,) = driver.run.read(["key", "error"]).to_pylist()
    assert found == {"key": "0", "error": "its worker process died 3 times: killed"}


def test_early_deaths_count_in_a_row_and_only_while_nobody_works(make):
    driver = make(images=9, actors=2, window=0)
    driver._died(driver._actors[0], DEATH)
    driver._died(driver._actors[0], DEATH)
    with pytest.raises(RunError, match="workers cannot start: killed"):
        driver._died(driver._actors[0], DEATH)
    driver = make(images=9, actors=2, window=0)
    driver._actors[1].window = 1  # this one works
    for left in (2, 2, 1):
        driver._died(next(a for a in driver._actors if not a.window), DEATH)
        assert len(driver._actors) == left


def test_an_actor_that_becomes_ready_ends_a_row_of_early_deaths(make, monkeypatch):
    driver = make(images=9, actors=1, window=0)
    for _ in range(5):
        driver._died(driver._actors[0], DEATH)
        driver._died(driver._actors[0], DEATH)
        monkeypatch.setattr(module.ray, "wait", lambda refs, **_: (refs, []))
        monkeypatch.setattr(module.ray, "get", lambda _: 1)
        driver._collect()
        assert driver._actors[0].window == 1
        driver._actors[0].window = 0


def refusal(cause: Exception) -> RayTaskError:
    return RayTaskError("evaluate", "traceback", cause)


def refuse(driver: Driver, cause: Exception) -> None:
    """An actor that holds images says that it cannot commit one."""
    actor = next(a for a in driver._actors if a.leases)
    error = RayTaskError("evaluate", "traceback", cause)
    driver._refused(actor, next(iter(actor.leases)), error)
    driver._lease()


def test_an_actor_that_cannot_commit_is_replaced_and_its_images_go_back(make, caplog):
    driver = make(images=4, actors=2, window=2)
    refuse(driver, OSError(errno.EBUSY, "SlowDown"))
    assert given(driver) == [["2", "3"], ["0", "1"]]
    assert "could not commit and is replaced: [Errno 16] SlowDown" in caplog.text
    driver._done("one.parquet", 0)  # the store is well again
    for _ in range(5):
        refuse(driver, OSError(errno.EBUSY, "SlowDown"))


def test_actors_that_can_never_commit_end_the_run_with_the_reason(make):
    driver = make(images=64, actors=2)
    for _ in range(5):
        refuse(driver, OSError("no space left"))
    with pytest.raises(RunError, match="a worker cannot go on: no space left"):
        refuse(driver, OSError("no space left"))
    with pytest.raises(UsageError, match="a worker cannot go on: grid=9"):
        refuse(driver, UsageError("grid=9"))


def test_a_seal_that_fails_for_good_is_one_line_and_keeps_what_is_staged(make, monkeypatch):
    driver = make()
    name = driver.run.stage([row("a")], {})
    driver._done(name, 0)
    monkeypatch.setattr(type(driver.run), "write", Mock(side_effect=OSError("disk full")))
    with pytest.raises(RunError, match=r"^out=.*cannot be committed \(OSError: disk full\)") as e:
        driver._seal(final=True)
    assert "\n" not in str(e.value)
    assert driver.run.staged() == [name]


def test_nothing_is_sealed_once_the_lock_is_lost(make):
    driver = make()
    name = driver.run.stage([row("a")], {})
    driver._done(name, 0)
    driver.check = Mock(side_effect=RunError("taken over"))
    with pytest.raises(RunError, match="taken over"):
        driver._seal(final=True)
    assert driver.run.staged() == [name]


def play(suspects: Suspects[int], first: list[int], poison: set[int]) -> tuple[set, set, int]:
    """Actors die of poison, after all images before it are done: (done, given up, deaths)."""
    done, lost, deaths = set(), set(), 0
    group, suspect = first, False
    while True:
        bad = next((i for i, image in enumerate(group) if image in poison), None)
        done.update(group[:bad])
        if bad is not None:
            deaths += 1
            lost |= {suspects.died(group[bad:], suspect=suspect)} - {None}
        if not suspects:
            return done, lost, deaths
        group, suspect = suspects.next(), True


@pytest.mark.parametrize("n", [1, 2, 3, 64, 100])
@pytest.mark.parametrize("tries", [1, 3])
def test_one_poison_is_found_and_costs_few_deaths(n, tries):
    for poison in range(n):
        done, lost, deaths = play(Suspects(tries), list(range(n)), {poison})
        assert lost == {poison} and done == set(range(n)) - lost
        assert deaths <= 2 + log2(n) + tries
        assert n < 64 or deaths <= 2 * log2(n)


def test_several_poisons_are_all_found():
    poison = {3, 17, 18, 63}
    done, lost, _ = play(Suspects(3), list(range(64)), poison)
    assert lost == poison and done == set(range(64)) - poison


def test_a_death_that_is_nobodys_fault_costs_one_more_try():
    suspects: Suspects[int] = Suspects(3)
    assert suspects.died(list(range(64)), suspect=False) is None
    assert list(suspects.next()) == list(range(64)) and not suspects
    assert suspects.died([], suspect=False) is None and not suspects
