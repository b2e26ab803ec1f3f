"""The Ray actor: an engine in a thread of its own, decoding and committing beside it."""

import asyncio
import logging
import os
import queue
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import ray
import torch

from pipeline import config
from pipeline.data import SampleRef
from pipeline.engine import Counters, Engine
from pipeline.results import Run
from pipeline.work import Wanted


class Worker:
    """Evaluates images leased to it, as many at a time as its engine can batch."""

    def __init__(self, settings: Mapping[str, Any], threads: int):
        device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
        torch.set_num_threads(threads)
        self.work = config.build(settings, device)
        self.metadata = config.provenance(settings, self.work)
        self.run = Run(settings["out"], self.work.kind)
        self.engine = Engine(
            self.work.model, tokens_per_batch=settings["engine"]["tokens_per_batch"]
        )
        self.settings = settings
        self.inbox: queue.SimpleQueue = queue.SimpleQueue()
        self.failure: BaseException | None = None
        threading.Thread(target=self._work, args=(threads,), daemon=True).start()

    async def ready(self) -> int:
        """Images that this actor wants in flight."""
        self.work.check()
        fixed = self.settings["engine"]["images_in_flight"]
        return fixed or self.engine.window(*self.work.first_query())

    async def evaluate(self, ref: SampleRef, wanted: Wanted) -> tuple[str, int]:
        """Compute and stage one image's rows; returns the staged file and the rows that failed."""
        loop = asyncio.get_running_loop()
        try:
            sample, image_CHW = await asyncio.to_thread(self.work.read, ref)
        except Exception as error:
            rows = self.work.failures(ref.shard, ref.key, wanted, error)
        else:
            future = loop.create_future()
            self.inbox.put((self.work.explain(sample, image_CHW, wanted), loop, future))
            rows = await future
        name = await asyncio.to_thread(self.run.stage, rows, self.metadata)
        return name, sum(row["status"] != "ok" for row in rows)

    async def counters(self) -> Counters:
        """What the engine has spent."""
        return self.engine.counters

    def _work(self, threads: int) -> None:
        torch.set_num_threads(threads)  # OpenMP's setting belongs to the thread
        idle = True
        try:
            while True:
                while idle or not self.inbox.empty():
                    task, loop, future = self.inbox.get()
                    self.engine.add(
                        task,
                        partial(loop.call_soon_threadsafe, future.set_result),
                    )
                    idle = False
                idle = not self.engine.step()
        except BaseException:
            logging.exception("the engine stopped")
            os._exit(1)  # the driver sees a dead actor and replaces it
