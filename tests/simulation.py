"""A cluster in simulated time: the real schedule, actors that are numbers. No Ray, no waiting."""

import heapq
import itertools
import math
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from pipeline.workers.schedule import Image, Schedule, Span, patience, watermark

SHARD = 1000
LATENCY_S = 0.01


@dataclass
class Simulated:
    """An actor: computes what it holds in order; `slow`: how many times slower than others."""

    name: str
    slow: float
    up: float
    queue: deque = field(default_factory=deque)  # (image, cost)
    head: float = 0.0  # when the first in the queue began
    busy: float = 0.0
    calling: bool = False

    def advance(self, now: float) -> list[Image]:
        """What is done by now."""
        done = []
        while self.queue and self.head + self.queue[0][1] <= now:
            image, cost = self.queue.popleft()
            self.head += cost
            self.busy += cost
            done.append(image)
        return done

    def put(self, now: float, images: list[tuple[Image, float]]) -> None:
        if not self.queue:
            self.head = now
        self.queue.extend((i, cost * self.slow if cost >= 0 else math.inf) for i, cost in images)

    def answers(self, now: float, low: int, patience_s: float) -> float:
        """When an exchange begun now is answered: something is done and at most `low` are left."""
        end = self.head
        for i, (_, cost) in enumerate(self.queue):
            end += cost
            if end > now + patience_s:
                break
            if len(self.queue) - i - 1 <= low:
                return max(now, end)
        return now + patience_s


class Cluster:
    """`cost_n`: seconds of each image; infinite ones hang, negative ones kill their actor."""

    def __init__(
        self,
        cost_n: np.ndarray,
        *,
        actors: int,
        window: int,
        deadline_s: float = 600.0,
        kill_every_s: float | None = None,
        start_s: float = 30.0,
        stragglers: float = 0.0,
        seed: int = 0,
    ):
        self.cost_n, self.window, self.start_s = cost_n, window, start_s
        self.rng = np.random.default_rng(seed)
        self.schedule = Schedule(tries=3, deadline_s=deadline_s)
        self.actors: dict[str, Simulated] = {}
        self.events: list = []
        self.count = itertools.count()
        self.stragglers, self.kill_every_s = stragglers, kill_every_s
        self.computed: dict[Image, int] = {}
        self.given_up: list[Image] = []
        self.deaths = 0
        self.present: list[tuple[float, float]] = []  # (up, gone) of each actor
        self.worked: list[tuple[float, float]] = []  # (when, seconds of work done by then)
        self.driver_s = 0.0
        for shard in range(-(-len(cost_n) // SHARD)):
            self.schedule.offer(Span(shard, 0, min(SHARD, len(cost_n) - shard * SHARD)))
        for _ in range(actors):
            self.at(self.rng.uniform(0, start_s), self._start)
        self.schedule.coming = actors
        if kill_every_s:
            self.at(kill_every_s, self._kill_some)
        self.at(1.0, self._look)

    def at(self, when: float, what, *args) -> None:
        heapq.heappush(self.events, (when, next(self.count), what, args))

    def run(self) -> float:
        """The time at which all is done."""
        now = 0.0
        while self.events and not self.schedule.finished:
            now, _, what, args = heapq.heappop(self.events)
            what(now, *args)
        for actor in self.actors.values():
            self.present.append((actor.up, now))
        return now

    def utilisation(self, until: float) -> float:
        """Seconds of work, of those that actors were there."""
        present = sum(max(0.0, min(gone, until) - up) for up, gone in self.present)
        return sum(s for when, s in self.worked if when <= until) / present

    def _start(self, now: float) -> None:
        name = f"a{next(self.count)}"
        slow = 5.0 if self.rng.random() < self.stragglers else 1.0
        actor = self.actors[name] = Simulated(name, slow, now)
        self.schedule.coming = max(0, self.schedule.coming - 1)
        self.schedule.up(name, self.window, now)
        self._call(now, actor)

    def _call(self, now: float, actor: Simulated) -> None:
        began = time.perf_counter()
        spans = self.schedule.give(actor.name, now)
        seat = self.schedule.seats[actor.name]
        self.driver_s += time.perf_counter() - began
        images = [image for span in spans for image in span.images()]
        actor.put(now, [(i, self._cost(i)) for i in images])
        actor.calling = bool(seat.held)
        if not actor.calling:
            return
        self._poisoned(now, actor)
        due = actor.answers(now, watermark(seat), patience(len(self.actors)))
        self.at(due + LATENCY_S, self._answer, actor.name)

    def _answer(self, now: float, name: str) -> None:
        actor = self.actors.get(name)
        if actor is None:
            return
        done = actor.advance(now)
        self._did(now, actor, done)
        began = time.perf_counter()
        self.schedule.heard(name, done, now)
        self.driver_s += time.perf_counter() - began
        self._call(now, actor)

    def _did(self, now: float, actor: Simulated, done: list[Image]) -> None:
        for image in done:
            self.computed[image] = self.computed.get(image, 0) + 1
            self.worked.append((now, self._cost(image) * actor.slow))

    def _cost(self, image: Image) -> float:
        return float(self.cost_n[image[0] * SHARD + image[1]])

    def _poisoned(self, now: float, actor: Simulated) -> None:
        """Poison kills when its turn comes."""
        end = max(now, actor.head)
        for image, cost in itertools.islice(actor.queue, self.window):
            if self._cost(image) < 0:
                self.at(end + 0.01, self._die, actor.name)
                return
            end += cost

    def _die(self, now: float, name: str, among: tuple[Image, ...] = ()) -> None:
        actor = self.actors.pop(name, None)
        if actor is None:
            return
        self.deaths += 1
        durable = actor.advance(now)
        self._did(now, actor, durable)
        self.present.append((actor.up, now))
        self.given_up += self.schedule.down(name, durable, guilty=True, among=among)
        self.schedule.coming += 1
        self.at(now + self.start_s, self._start)

    def _kill_some(self, now: float) -> None:
        names = list(self.actors)
        for i in self.rng.choice(len(names), max(1, len(names) // 100), replace=False):
            self._die(now, names[i])
        self.at(now + self.kill_every_s, self._kill_some)

    def _look(self, now: float) -> None:
        oldest = {
            a.name: now - max(a.head, a.up)
            for a in self.actors.values()
            if a.queue and a.head < now
        }
        heard = {name: now - seat.heard for name, seat in self.schedule.seats.items()}
        oldest = {name: max(0.0, s - heard[name]) for name, s in oldest.items()}
        for name in self.schedule.late(oldest, now):
            self._die(now, name, (self.actors[name].queue[0][0],))
        for actor in list(self.actors.values()):
            if not actor.calling:
                self._call(now, actor)
        self.at(now + 1.0, self._look)
