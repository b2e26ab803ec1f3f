"""Actors without processes, for tests of the driver."""

import queue
from unittest.mock import Mock

from pipeline.workers.cluster import Group, Plan
from pipeline.workers.crew import Left, Member, Spent

GROUP = Group(actors=2, resources={})


class Crew:
    """Actors that remember what they were given, and say what they are told to."""

    def __init__(self, *_):
        self.plan = Plan(groups=(GROUP,), threads=1)
        self.members: dict[str, Member] = {}
        self.inbox: queue.SimpleQueue = queue.SimpleQueue()
        self.spent = Spent()
        self.given: dict[str, list[int]] = {}
        self.durable: dict[str, set] = {}
        self.told: dict[str, list] = {}
        self.ended: list[str] = []
        self.closed: list[str] = []
        self.drained: list[str] = []
        self._names = iter("abcdefghijklmnopqrstuvwxyz")

    def take_on(self, cells): ...

    def start(self, count, now):
        for name in [next(self._names) for _ in range(count)]:
            self.members[name] = Member(name, Mock(), GROUP, now)
            self.given[name] = []

    def ask(self, member, leases, low, patience_s):
        member.call = object()
        self.given[member.name] += [lease.image[1] for lease in leases]

    def drain(self, member):
        self.drained.append(member.name)

    def reported(self, member, report):
        self.spent.add(member.report, report)
        member.report, member.call = report, None

    def end(self, member):
        del self.members[member.name]
        self.ended.append(member.name)
        return self.durable.get(member.name, set())

    def close(self, members):
        for member in members:
            del self.members[member.name]
            self.closed.append(member.name)
        return {
            m.name: Left(self.told.get(m.name, ()), self.durable.get(m.name, ())) for m in members
        }

    def kill(self):
        self.members.clear()

    def tidy(self): ...
