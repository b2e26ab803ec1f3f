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

from pipeline import studies
from pipeline.build import provenance
from pipeline.engine import Counters, Engine
from pipeline.rows import RunDir
from pipeline.work import Known, Row
from pipeline.workers.lease import Lease


class Worker:
    """Evaluates images leased to it, as many at a time as its engine can batch."""

    def __init__(self, study: str, settings: Mapping[str, Any], threads: int):
        device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
        torch.set_num_threads(threads)
        self.work = studies.build(study, settings, device)
        self.metadata = provenance(settings, self.work)
        self.run = RunDir(settings["out"], self.work.kind)
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
        return fixed or self.engine.window(*self.work.first_request())

    async def evaluate(self, lease: Lease) -> tuple[str, int]:
        """Compute and stage one image's rows; returns the staged file and the rows that failed.

        Raises where they cannot be committed.
        """
        ref, wanted = lease.ref, lease.wanted
        loop = asyncio.get_running_loop()
        known = await asyncio.to_thread(self._known, lease) if lease.known else {}
        try:
            ready = await asyncio.to_thread(self.work.read, ref, wanted, known)
        except Exception as error:
            rows = self.work.failures(ref.shard, ref.key, wanted, error)
        else:
            future = loop.create_future()
            self.inbox.put((self.work.explain(ready, wanted, known), loop, future))
            rows = await future
        name = await asyncio.to_thread(self.run.stage, rows, self.metadata)
        return name, sum(row["status"] != "ok" for row in rows)

    async def counters(self) -> Counters:
        """What the engine has spent."""
        return self.engine.counters

    def _known(self, lease: Lease) -> Known:
        """Earlier rows whose orders are those that are wanted."""
        prints, facet_of = self.work.order_fingerprints, self.work.kind.facet
        found: dict[tuple[str, Any], Row] = {}
        for part in set(lease.known.values()):
            rows = self.run.read_rows(part, shard=lease.ref.shard, key=lease.ref.key, status="ok")
            orders = {(row["order_fingerprint"], row[facet_of]): row for row in rows}
            for (method, facet), where in lease.known.items():
                if where == part:
                    found[method, facet] = orders[prints[method], facet]
        return found

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
