"""Where a run stands, as an operator sees it: images, forwards, actors, cells of a sweep."""

import time
from collections.abc import Mapping

from pipeline.progress import ActorStatus, CellStatus, Status
from pipeline.workers.backlog import Backlog
from pipeline.workers.crew import Crew, Member
from pipeline.workers.lease import Cell
from pipeline.workers.schedule import Schedule, patience


def standing(cells: Mapping[int, Cell], backlog: Backlog, crew: Crew, schedule: Schedule) -> Status:
    """What a driver knows, put together."""
    members, found = crew.members.values(), backlog.found
    oldest = [m.report.oldest for m in members if m.report and m.report.oldest]
    image, seconds = max(oldest, key=lambda one: one[1], default=(None, 0.0))
    actors = [_of_actor(member, schedule, len(members)) for member in members]
    return Status(
        images=found.missing_images,
        known=backlog.complete,
        done=schedule.done,
        failures=dict(crew.spent.failures),
        in_flight=sum(actor.in_flight for actor in actors),
        forwards=found.forwards,
        counters=crew.spent.counters,
        actors=actors,
        slowest=image and ("/".join(backlog.place(image)), seconds),
        cells=[_of_cell(n, cells[n], backlog, crew) for n in cells] if len(cells) > 1 else (),
    )


def _of_actor(member: Member, schedule: Schedule, members: int) -> ActorStatus:
    seat, report = schedule.seats.get(member.name), member.report
    state = "starting" if seat is None else "draining" if seat.leaving else "working"
    if seat is not None and seat.held and time.monotonic() - seat.heard > 5 * patience(members):
        state = "silent"
    return ActorStatus(
        name=member.name,
        node=member.host,
        images=seat.done if seat else 0,
        in_flight=report.in_flight if report else 0,
        images_per_s=seat.speed if seat else 0.0,
        busy=report.counters.seconds / max(1e-9, report.seconds) if report else 0.0,
        state=state,
    )


def _of_cell(number: int, cell: Cell, backlog: Backlog, crew: Crew) -> CellStatus:
    tally = crew.spent.tally(number)
    rows = backlog.of[number].missing_rows
    return CellStatus(name=cell.name, rows=rows, done=tally.rows, failed=tally.failures.total())
