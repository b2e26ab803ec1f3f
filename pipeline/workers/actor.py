"""The Ray actor: a line of its own, and what the driver can ask of it."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch

from pipeline import studies
from pipeline.build import load, provenance
from pipeline.engine import Engine
from pipeline.rows import RunDir, Writer
from pipeline.work import Work
from pipeline.workers.lease import Lease, Report
from pipeline.workers.line import Line
from pipeline.workers.schedule import Image


class Worker:
    """Evaluates images leased to it, as many at a time as its engine can batch."""

    def __init__(
        self, study: str, cells: Mapping[int, Mapping[str, Any]], threads: int, writer: str
    ):
        """`cells`: settings by number, all of one model, which is loaded once."""
        device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
        torch.set_num_threads(threads)
        self.study, self.threads = study, threads
        self.settings = next(iter(cells.values()))
        self.model = load(self.settings, device)
        self.works: dict[int, Work] = {}
        self.made: dict[int, Mapping[str, Any]] = {}
        self._learn(cells)
        run = RunDir(self.settings["out"], next(iter(self.works.values())).kind)
        self.writer = Writer(run, writer, next(iter(self.made.values())))
        self.line: Line | None = None

    async def ready(self) -> tuple[int, str, str]:
        """Images that can be under way here, this node's id and its host's name."""
        self.line = await asyncio.to_thread(self._begin)
        return self.line.window, ray.get_runtime_context().get_node_id(), socket.gethostname()

    async def exchange(
        self,
        leases: Sequence[Lease],
        low: int,
        patience_s: float,
        cells: Mapping[int, Mapping[str, Any]],
    ) -> Report:
        """Take images on, of `cells` that are new here; answer when others are done and at most
        `low` are left, or in time."""
        assert self.line is not None
        await asyncio.to_thread(self._learn, cells)
        self.line.put(leases)
        await asyncio.to_thread(self.line.wait, low, patience_s)
        return self.line.report()

    async def drain(self) -> list[Image]:
        """Begin nothing more; images that had not begun."""
        assert self.line is not None
        return self.line.drain()

    async def seal(self) -> Report:
        """Make parts of what is durable, once nothing is under way."""
        assert self.line is not None
        await asyncio.to_thread(self.line.seal)
        return self.line.report()

    async def close(self) -> Report:
        """Seal everything and leave nothing staged; what is under way is lost."""
        assert self.line is not None
        await asyncio.to_thread(self.line.close)
        return self.line.report()

    def _learn(self, cells: Mapping[int, Mapping[str, Any]]) -> None:
        for number, settings in cells.items():
            work = studies.build(self.study, settings, model=self.model)
            if self.model.device.type != "cpu":  # as the driver has checked it
                work.check()
            self.made[number] = provenance(settings, work)
            self.works[number] = work

    def _begin(self) -> Line:
        engine = Engine(self.model, tokens_per_batch=self.settings["engine"]["tokens_per_batch"])
        fixed = self.settings["engine"]["images_in_flight"]
        requests = [] if fixed else {work.first_request() for work in self.works.values()}
        line = Line(
            self.works,
            self.made,
            engine,
            self.writer,
            in_engine=fixed or max(engine.window(*request) for request in requests),
            threads=self.threads,
            deadline_s=self.settings["cluster"]["image_deadline_s"],
            fatal=_end,
        )
        line.start()
        return line


def _end(error: BaseException) -> None:
    """The driver sees a dead actor and replaces it."""
    time.sleep(0.1)  # for the log
    os._exit(1)
