"""The distributed run, and the only place that imports Ray.

The driver leases images, one at a time, as many to an actor as it keeps in flight. An actor
decodes, computes, stages one durable file per image and acknowledges; results never travel through
Ray. A dead actor's images go back and are tried again alone, so that one poisonous image cannot
take others along; after `cluster.tries` deaths it becomes failed rows. The driver seals staged
files into parts.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import ray

from pipeline import UsageError, config
from pipeline.data import SampleRef
from pipeline.engine import Counters
from pipeline.progress import Progress
from pipeline.results import Identity, Run
from pipeline.work import Wanted, Work
from pipeline.workers.driver import Driver, Lease, connect

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Report:
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


def run(settings: Mapping[str, Any]) -> Report:
    """Bring every requested row into being: compute those that `out` does not hold yet.

    Raises UsageError for settings that cannot work, before any worker starts.
    """
    work = config.build(settings)
    work.check()
    place = Run(settings["out"], work.kind)
    refs = list(work.data.index())
    if not refs:
        keys = settings["dataset"]["keys"]
        which = f"none of the samples that dataset.keys={keys} lists is" if keys else "no samples"
        raise UsageError(f"dataset.shards: {which} in {settings['dataset']['shards']}")
    place.check_shards(_shard_sizes(refs))
    committed = place.committed()
    place.seal(place.staged(), committed)
    leases = _missing(work, refs, committed)
    rows = sum(len(lease.wanted) for lease in leases)
    total = len(refs) * len(work.wanted)
    print(
        f"{settings['out']}: {total - rows} of {total} rows are there; "
        + (f"computing {rows} rows of {len(leases)} images" if rows else "nothing to compute"),
        flush=True,
    )
    started = time.monotonic()
    if not leases:
        return Report(images=len(refs), computed=0, failed_rows=0, counters=Counters(), seconds=0.0)
    forwards = sum(work.forwards(lease.wanted) for lease in leases)
    connect(settings["cluster"])
    try:
        with Progress(images=len(leases), forwards=forwards) as progress:
            driver = Driver(settings, work, leases, committed, progress)
            driver.evaluate()
    finally:
        ray.shutdown()
    return Report(
        images=len(refs),
        computed=driver.images,
        failed_rows=driver.failed_rows,
        counters=driver.counters,
        seconds=time.monotonic() - started,
    )


def _missing(work: Work, refs: list[SampleRef], committed: set[Identity]) -> list[Lease]:
    """A lease for each image that lacks rows, over just those rows."""
    prints = work.fingerprints
    leases = []
    for ref in refs:
        wanted: Wanted = [
            (method, part)
            for method, part in work.wanted
            if (ref.shard, ref.key, prints[method], part) not in committed
        ]
        if wanted:
            leases.append(Lease(ref, wanted))
    return leases


def _shard_sizes(refs: list[SampleRef]) -> dict[str, int]:
    sizes = {}
    for shard, url in {ref.shard: ref.url for ref in refs}.items():
        fs, path = fsspec.core.url_to_fs(url)
        sizes[shard] = fs.size(path)
    return sizes
