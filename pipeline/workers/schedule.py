"""Who computes which images, and what becomes of them when workers fall: the policy alone.

No Ray and no clock: events go in with the seconds at which they happened, and what is to be done
comes out. An actor holds images in the order given; only the first `window` of them can be under
way, the others wait beside it so that it never waits for the driver.

What an actor may hold is its window and what it computes in AHEAD_S, as measured, but never more
than its share, by speed, of all that is left: slices are large first and single images at the tail
(guided self-scheduling; Polychronopoulos and Kuck, 1987), so that nobody is idle while others have
a queue.
"""

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.workers.suspects import Suspects

Image = tuple[int, int]
"""Number of a shard, and a place in its index."""
AHEAD_S = 20.0
PATIENCE_S = 2.0
REPORTS_PER_S = 500
"""What a driver can hear in all: of many actors, each reports less often."""
SMOOTHING = 0.3
SETTLED_S = 1.0
"""Speeds are measured over at least so long."""


class Span(NamedTuple):
    """Neighbours in a shard: places from `start` up to `stop`."""

    shard: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many."""
        return self.stop - self.start

    def images(self) -> list[Image]:
        """Each."""
        return [(self.shard, place) for place in range(self.start, self.stop)]


@dataclass
class Seat:
    """What is known of one actor. Speed is in images a second."""

    window: int
    heard: float
    held: dict[Image, None] = field(default_factory=dict)
    done: int = 0
    speed: float = 0.0
    suspect: bool = False
    leaving: bool = False
    _since: float = 0.0
    _lately: int = 0

    def measure(self, done: int, now: float) -> None:
        """Note images done since the last time."""
        self.done += done
        self._lately += done
        if (past := now - self._since) >= SETTLED_S and self._lately:
            speed = self._lately / past
            self.speed += (SMOOTHING if self.speed else 1.0) * (speed - self.speed)
            self._since, self._lately = now, 0


class Schedule:
    """Gives images to actors until each is done or given up."""

    def __init__(self, *, tries: int, deadline_s: float):
        self.deadline_s = deadline_s
        self.suspects: Suspects[Image] = Suspects(tries)
        self.seats: dict[str, Seat] = {}
        self.waiting = 0
        self.done = 0
        self.more = False  # whether images will be offered, nobody knows how many
        self.coming = 0  # actors that will be up soon
        self.stopping = False
        self._todo: deque[Span] = deque()
        self._held = 0  # by all seats
        self._speed = 0.0  # of all seats
        self._measured = 0  # seats whose speed is known

    @property
    def finished(self) -> bool:
        """Nothing waits and nothing is under way, of all that was offered."""
        return not (self.waiting or self.suspects or self._held)

    @property
    def actors_needed(self) -> int:
        """Actors that would find something to do now, those at work among them."""
        holders = sum(1 for seat in self.seats.values() if seat.held)
        return holders + self.waiting + len(self.suspects) + (10**6 if self.more else 0)

    def offer(self, span: Span) -> None:
        """More to do."""
        self._todo.append(span)
        self.waiting += span.size

    def stop(self) -> None:
        """Give nothing more to anybody."""
        self.stopping = True

    def up(self, actor: str, window: int, now: float) -> None:
        """An actor is ready for work, of which `window` images can be under way."""
        self.seats[actor] = Seat(window=window, heard=now, _since=now)

    def leave(self, actor: str) -> None:
        """An actor will end soon: it gets nothing more."""
        self.seats[actor].leaving = True

    def returned(self, actor: str, images: Collection[Image]) -> None:
        """What an actor that leaves has not begun, by its own account, goes to others."""
        held = self.seats[actor].held
        back = [image for image in images if image in held]
        for image in back:
            del held[image]
        self._held -= len(back)
        self._return(back)

    def give(self, actor: str, now: float) -> list[Span]:
        """What an actor is to have besides what it holds, perhaps nothing."""
        seat = self.seats[actor]
        if not seat.held:
            seat.heard = now  # it had nothing to tell, however long
        if self.stopping or seat.leaving or (seat.suspect and seat.held):
            return []
        seat.suspect = bool(self.suspects) and not seat.held
        if seat.suspect:
            images = self.suspects.next()
            seat.held.update(dict.fromkeys(images))
            self._held += len(images)
            return _spans(images)
        return self._take(seat, min(self.waiting, self._level(seat) - len(seat.held)))

    def heard(self, actor: str, done: Collection[Image], now: float) -> None:
        """An actor has made these images durable, and is alive."""
        seat = self.seats[actor]
        seat.heard = now
        before, held = seat.speed, len(seat.held)
        for image in done:
            seat.held.pop(image, None)
        known = held - len(seat.held)
        self._held -= known
        self.done += known
        seat.measure(known, now)
        self._speed += seat.speed - before
        self._measured += bool(seat.speed) - bool(before)

    def down(
        self,
        actor: str,
        durable: Collection[Image],
        *,
        guilty: bool,
        among: Collection[Image] | None = None,
    ) -> list[Image]:
        """An actor is no more; `durable`: images of it that are, told of or not. `guilty`: an image
        may have killed it, one of `among` where it is known so well, rather than a store, a node or
        the driver. Returns images to give up."""
        seat = self.seats.pop(actor)
        self._held -= len(seat.held)
        self._speed -= seat.speed
        self._measured -= bool(seat.speed)
        lost = [image for image in seat.held if image not in durable]
        self.done += len(seat.held) - len(lost)
        begun, rest = lost[: seat.window], lost[seat.window :]
        if not guilty and not seat.suspect:
            self._return(lost)
            return []
        if among and not seat.suspect:
            rest = [image for image in lost if image not in among]
            begun = [image for image in lost if image in among]
        self._return(rest)
        if not guilty:
            self.suspects.add(begun)
            return []
        given_up = self.suspects.died(begun, suspect=seat.suspect)
        self.done += given_up is not None
        return [] if given_up is None else [given_up]

    def late(self, oldest: dict[str, float], now: float) -> list[str]:
        """Actors to end: silent, or with an image under way, longer than the deadline. `oldest`:
        seconds that the oldest image of each has taken when it was last heard of."""
        return [
            name
            for name, seat in self.seats.items()
            if seat.held and now - seat.heard + oldest.get(name, 0.0) > self.deadline_s
        ]

    def _level(self, seat: Seat) -> int:
        """Images that an actor should hold now."""
        others = len(self.seats) - self._measured + self.coming
        mean = self._speed / self._measured if self._measured else 1.0
        share = (seat.speed or mean) / (self._speed + mean * others)
        enough = seat.window + math.ceil(seat.speed * AHEAD_S)
        return enough if self.more else max(1, min(enough, math.ceil(self.waiting * share)))

    def _take(self, seat: Seat, count: int) -> list[Span]:
        taken = []
        while count > 0:
            span = self._todo.popleft()
            if span.size > count:
                self._todo.appendleft(span._replace(start=span.start + count))
                span = span._replace(stop=span.start + count)
            taken.append(span)
            count -= span.size
            self.waiting -= span.size
            self._held += span.size
            seat.held.update(dict.fromkeys(span.images()))
        return taken

    def _return(self, images: Sequence[Image]) -> None:
        """To the front: whatever was begun first ends first."""
        for span in reversed(_spans(images)):
            self._todo.appendleft(span)
        self.waiting += len(images)


def patience(actors: int) -> float:
    """Seconds after which each of so many actors reports in any case."""
    return max(PATIENCE_S, actors / REPORTS_PER_S)


def watermark(seat: Seat) -> int:
    """Images that an actor may have left when it asks for more, which it does not wait for then."""
    return min(len(seat.held) - 1, seat.window + int(seat.speed * AHEAD_S / 2))


def _spans(images: Sequence[Image]) -> list[Span]:
    found: list[Span] = []
    for shard, place in images:
        if found and (found[-1].shard, found[-1].stop) == (shard, place):
            found[-1] = found[-1]._replace(stop=place + 1)
        else:
            found.append(Span(shard, place, place + 1))
    return found
