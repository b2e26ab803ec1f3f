"""The distributed run, and the only place that imports Ray.

The driver leases images, one at a time, as many to an actor as it keeps in flight. An actor
decodes, computes, stages one durable file per image and acknowledges; results never travel through
Ray. A dead actor's images go back together to an idle actor, and are halved while it dies of them,
so that one poisonous image cannot take others along; alone, after `cluster.tries` deaths, it
becomes failed rows. The driver seals staged files into parts. It holds the run directory's lock.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import ray

from pipeline import UsageError, studies
from pipeline.data import SampleRef
from pipeline.engine import Counters
from pipeline.lock import Lock
from pipeline.progress import Progress
from pipeline.rows import Identity, RunDir, Storage
from pipeline.rows.storage import retried
from pipeline.work import Wanted, Work
from pipeline.workers.cluster import connect
from pipeline.workers.commit import committing
from pipeline.workers.driver import Driver
from pipeline.workers.lease import Lease

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run did: images in the data set, images computed now, rows that failed, forwards."""

    images: int
    computed: int
    failed_rows: int
    counters: Counters
    seconds: float

    def text(self) -> str:
        """A line of it."""
        spent = self.counters
        return (
            f"{self.computed} images in {self.seconds:.0f} s: {spent.forwards:,} forwards, "
            f"{spent.forwards / self.seconds:.0f} forwards/s, "
            f"{spent.flops / self.seconds / 1e9:,.0f} GFLOP/s, {self.failed_rows} rows failed"
        )


def run(
    study: str,
    settings: Mapping[str, Any],
    accepted: Callable[[Mapping[str, Any]], None] = lambda settings: None,
) -> Outcome:
    """Bring every requested row of a study into being: compute those that `out` lacks.

    `accepted` is told the settings once they are known to work. Raises UsageError for settings
    that cannot work, before any worker starts.
    """
    work = studies.build(study, settings)
    work.check()
    refs = list(work.data.index())
    if not refs:
        keys = settings["dataset"]["keys"]
        which = f"none of the samples that dataset.keys={keys} lists is" if keys else "no samples"
        raise UsageError(f"dataset.shards: {which} in {settings['dataset']['shards']}")
    with Lock(Storage(settings["out"]), wait_s=settings["lock"]["wait_s"], say=_say) as lock:
        accepted(settings)
        return _complete(settings, work, refs, lock)


def _complete(
    settings: Mapping[str, Any], work: Work, refs: list[SampleRef], lock: Lock
) -> Outcome:
    """Compute the rows that are not committed yet, from reading these to the last seal."""
    place = RunDir(settings["out"], work.kind)
    with committing(place.out):
        place.check_shards(_shard_sizes(refs))
        committed = retried(place.committed)
        place.seal(place.staged(), committed)
    leases = _missing(work, refs, committed, place.orders(set(work.order_fingerprints.values())))
    rows = sum(len(lease.wanted) for lease in leases)
    total = len(refs) * len(work.wanted)
    _say(
        f"{settings['out']}: {total - rows} of {total} rows are there; "
        + (f"computing {rows} rows of {len(leases)} images" if rows else "nothing to compute")
    )
    started = time.monotonic()
    if not leases:
        return Outcome(
            images=len(refs), computed=0, failed_rows=0, counters=Counters(), seconds=0.0
        )
    forwards = sum(work.forwards(lease.wanted, lease.known) for lease in leases)
    connect(settings["cluster"])
    try:
        with Progress(images=len(leases), forwards=forwards) as progress:
            driver = Driver(settings, work, leases, committed, progress, lock.check)
            driver.evaluate()
    finally:
        ray.shutdown()
    return Outcome(
        images=len(refs),
        computed=driver.images,
        failed_rows=driver.failed_rows,
        counters=driver.counters,
        seconds=time.monotonic() - started,
    )


def _say(text: str) -> None:
    print(text, flush=True)


def _missing(
    work: Work,
    refs: list[SampleRef],
    committed: set[Identity],
    orders: Mapping[tuple[str, str, str, Any], str],
) -> list[Lease]:
    """A lease for each image that lacks rows, over just those rows."""
    prints, order_prints = work.fingerprints, work.order_fingerprints
    leases = []
    for ref in refs:
        wanted: Wanted = [
            (method, facet)
            for method, facet in work.wanted
            if (ref.shard, ref.key, prints[method], facet) not in committed
        ]
        known = {
            (method, facet): orders[place]
            for method, facet in wanted
            if (place := (ref.shard, ref.key, order_prints.get(method, ""), facet)) in orders
        }
        if wanted:
            leases.append(Lease(ref, wanted, known))
    return leases


def _shard_sizes(refs: list[SampleRef]) -> dict[str, int]:
    sizes = {}
    for shard, url in {ref.shard: ref.url for ref in refs}.items():
        fs, path = fsspec.core.url_to_fs(url)
        sizes[shard] = fs.size(path)
    return sizes
