"""Who computes which images, and what becomes of them: no Ray, no clock."""

import resource
from math import log2

import numpy as np
import pytest
from simulation import SHARD, Cluster

from pipeline.workers.schedule import Schedule, Span, watermark
from pipeline.workers.suspects import Suspects


def schedule(images: int, *windows: int, coming: int = 0, tries: int = 3) -> Schedule:
    """Actors a, b, ... with these windows, and so many images."""
    made = Schedule(tries=tries, deadline_s=60)
    made.offer(Span(0, 0, images))
    made.coming = coming
    for name, window in zip("abcdefgh", windows, strict=False):
        made.up(name, window, 0.0)
    return made


def given(made: Schedule, actor: str, now: float = 0.0) -> list[int]:
    return [place for span in made.give(actor, now) for _, place in span.images()]


def test_few_images_are_shared_out_evenly():
    made = schedule(8, 64, 64)
    assert [given(made, "a"), given(made, "b")] == [[0, 1, 2, 3], [4, 5]]
    made = schedule(8, 64, coming=1)  # another will be up soon
    assert given(made, "a") == [0, 1, 2, 3]


def test_slices_are_large_first_and_single_at_the_end():
    made, sizes = schedule(1000, 8, 8), []
    for now in range(1, 400):
        for actor in "ab":
            seat = made.seats[actor]
            made.heard(actor, list(seat.held)[:4], float(now))
            sizes.append(len(given(made, actor, float(now))))
    assert made.finished and made.done == 1000
    sizes = [size for size in sizes if size]
    assert max(sizes) > 40 and sizes[-1] == 1


def test_an_actor_is_held_to_its_own_speed():
    made = schedule(100_000, 2, 2)
    for now in range(1, 60):
        for actor, speed in (("a", 10), ("b", 1)):
            made.heard(actor, list(made.seats[actor].held)[:speed], float(now))
            made.give(actor, float(now))
    fast, slow = (len(made.seats[actor].held) for actor in "ab")
    assert fast > 150 and 20 < slow < 30
    assert watermark(made.seats["a"]) > 100


def test_what_had_not_begun_is_nobodys_fault():
    made = schedule(100, 4)
    for now in range(1, 4):
        made.heard("a", list(made.seats["a"].held)[:4], float(now))
        made.give("a", float(now))
    held = [place for _, place in made.seats["a"].held]
    assert made.down("a", {(0, held[1])}, guilty=True) == []
    assert made.waiting == 100 - made.done - 4 and len(made.suspects) == 1
    made.up("b", 4, 10.0)
    assert given(made, "b", 10.0) == [held[0], *held[2:5]]  # the suspects, and nothing else
    assert given(made, "b", 10.0) == []


def test_a_death_that_no_image_caused_leaves_no_suspects():
    made = schedule(10, 4)
    first = given(made, "a")
    assert made.down("a", (), guilty=False) == []
    made.up("b", 4, 0.0)
    assert not made.suspects and given(made, "b") == first


def test_only_images_that_took_long_are_suspects_where_that_is_known():
    made = schedule(10, 4)
    given(made, "a")
    made.down("a", (), guilty=True, among=[(0, 2)])
    made.up("b", 4, 0.0)
    assert given(made, "b") == [2]
    assert made.down("b", (), guilty=True) == []
    made.up("c", 4, 0.0)
    assert given(made, "c") == [2]
    assert made.down("c", (), guilty=True) == [(0, 2)]  # it was alone three times
    assert made.done == 1


def test_an_actor_that_leaves_keeps_what_it_has_begun():
    made = schedule(100, 4)
    for now in range(1, 4):
        made.heard("a", list(made.seats["a"].held)[:4], float(now))
        made.give("a", float(now))
    held, waiting = list(made.seats["a"].held), made.waiting
    made.leave("a")
    made.returned("a", held[6:])  # it had begun more than it had told
    assert list(made.seats["a"].held) == held[:6] and made.waiting == waiting + len(held) - 6
    made.heard("a", held[:2], 5.0)
    assert given(made, "a", 5.0) == []


def test_an_idle_actor_is_never_late_and_a_silent_one_is():
    made = schedule(2, 4, 4)
    given(made, "a", 0.0)
    given(made, "b", 0.0)
    made.heard("b", list(made.seats["b"].held), 1.0)
    assert made.late({}, 59.0) == []
    assert made.late({}, 61.0) == ["a"]
    assert made.late({"a": 30.0}, 31.0) == ["a"]  # it speaks of an image that takes long
    made.offer(Span(1, 0, 1))
    given(made, "b", 1000.0)
    assert "b" not in made.late({}, 1001.0)


def test_nothing_is_given_after_a_stop():
    made = schedule(10, 4)
    first = given(made, "a")
    made.stop()
    made.heard("a", [(0, place) for place in first], 1.0)
    assert given(made, "a") == [] and not made.finished


@pytest.mark.parametrize("seed", range(20))
def test_every_image_ends_once_whatever_happens(seed):
    rng = np.random.default_rng(seed)
    made, ended, n = schedule(0), [], 0
    made.offer(Span(0, 0, 300))
    for now in range(20000):
        names = sorted(made.seats)
        event = rng.choice(["up", "give", "heard", "down", "leave"], p=[0.05, 0.4, 0.5, 0.04, 0.01])
        if (event == "up" and len(names) < 5) or not names:
            made.up(f"{n}", int(rng.integers(1, 9)), float(now))
            n += 1
            continue
        name = names[rng.integers(len(names))]
        held = list(made.seats[name].held)
        if event == "give":
            made.give(name, float(now))
        elif event == "heard":
            done = held[: rng.integers(0, 4)]
            made.heard(name, done, float(now))
            ended += done
        elif event == "down":
            durable = held[: rng.integers(0, 2)]
            ended += durable + made.down(name, durable, guilty=bool(rng.integers(2)))
        elif event == "leave":
            made.leave(name)
            made.returned(name, held[rng.integers(0, 9) :])
        if made.finished:
            break
    assert made.finished and made.done == 300
    assert sorted(ended) == [(0, place) for place in range(300)]


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


def test_several_poisons_are_all_found():
    poison = {3, 17, 18, 63}
    done, lost, _ = play(Suspects(3), list(range(64)), poison)
    assert lost == poison and done == set(range(64)) - poison


def costs(n: int, poison: list[int], hanging: list[int]) -> np.ndarray:
    """Seconds of each image, a second on average, few of half a minute and more."""
    cost_n = np.random.default_rng(0).lognormal(-0.5, 1.0, n)
    cost_n[poison], cost_n[hanging] = -1, np.inf
    return cost_n


def check(cluster: Cluster, bad: list[int], end: float, over_all: float) -> None:
    n = len(cluster.cost_n)
    assert sorted(cluster.given_up) == [(i // SHARD, i % SHARD) for i in sorted(bad)]
    assert len(cluster.computed) == n - len(bad) and set(cluster.computed.values()) == {1}
    when = np.sort([when for when, _ in cluster.worked])
    assert cluster.utilisation(float(when[int(0.99 * len(when))])) > 0.97
    assert cluster.utilisation(end) > over_all


def test_a_hundred_actors_that_come_and_go():
    bad = [77, 9000, 5000]
    cluster = Cluster(
        costs(20_000, bad[:2], bad[2:]),
        actors=100,
        window=8,
        deadline_s=100.0,
        kill_every_s=60,
        stragglers=0.02,
    )
    # a hanging image takes three deadlines, as long as all the others together here
    check(cluster, bad, cluster.run(), over_all=0.4)


@pytest.mark.slow
def test_a_thousand_actors_and_imagenet():
    bad = [77, 9000, 640_000, 5000]
    cluster = Cluster(
        costs(1_280_000, bad[:3], bad[3:]),
        actors=1000,
        window=8,
        deadline_s=200.0,
        kill_every_s=60,
        stragglers=0.02,
    )
    check(cluster, bad, cluster.run(), over_all=0.90)
    assert cluster.driver_s / 1_280_000 < 0.002
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2e6  # kilobytes
