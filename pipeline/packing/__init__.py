"""Image collections to WebDataset tars: the same bytes whenever, wherever and however often packed.

A plan says what is in every tar before any is written; a tar counts as done where the file beside
it says that it was made of this very plan.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import Any

from pipeline import RunError, UsageError
from pipeline.components import one_line
from pipeline.data.catalogue import MANIFEST, NAMES
from pipeline.data.index import BESIDE, dumped, found, loaded
from pipeline.data.ranges import Ranges
from pipeline.packing.manifest import manifest
from pipeline.packing.plan import Plan, ShardPlan
from pipeline.packing.shard import digest, tar
from pipeline.rows.storage import Storage, retried


def pack(
    plan: Plan,
    out: Storage,
    *,
    source: Mapping[str, Any],
    workers: int = 4,
    told: Callable[[int], None] = lambda images: None,
) -> dict[str, Any]:
    """Write the shards that are not there yet, and what lies beside them; the manifest.

    Each of `workers` threads holds one shard in memory. `source`: settings of the reader, for the
    manifest. `told` hears how many images have been added. Raises UsageError where `out` holds
    other tars, or an image cannot be read; RunError where writing fails.
    """
    try:
        there = set(out.names())
    except OSError as error:
        raise UsageError(f"out={out.out} cannot be read: {one_line(error)}") from None
    _refuse_others(plan, out, there)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pack")
    try:
        waiting = {pool.submit(_packed, shard, out, there): shard for shard in plan.shards}
        records = {}
        for done in as_completed(waiting):
            records[waiting[done].name] = done.result()
            told(len(waiting[done].samples))
    finally:
        pool.shutdown(cancel_futures=True)
    held = manifest(plan, records, source)
    _write(out, NAMES, "".join(f"{name}\n" for name in plan.class_names).encode())
    text = json.dumps(held, indent=1, ensure_ascii=False)
    _write(out, MANIFEST, f"{text}\n".encode())
    _sweep(plan, out)
    return held


def _packed(shard: ShardPlan, out: Storage, there: set[str]) -> dict[str, Any]:
    """Checksum and size of a shard, which is written unless it is there."""
    if (record := _record(shard, out, there)) is not None:
        return record
    content = tar(shard)
    file = Ranges(len(content), None, lambda start, end: content[start:end], len(content))
    samples, meta = found(shard.name, file)
    if samples.num_rows != len(shard.samples):  # each key is another's, so none hides another
        raise RunError(f"{shard.name}: {samples.num_rows} of {len(shard.samples)} samples in it")
    record = {"size": len(content), "sha256": digest(content), "plan": shard.digest}
    _write(out, shard.name, content)
    _write(out, shard.name + BESIDE, dumped((samples, meta | record)))  # after it, so newer
    return {"samples": samples.num_rows} | record


def _record(shard: ShardPlan, out: Storage, there: set[str]) -> dict[str, Any] | None:
    """What is known of a shard that was made of the same plan, None where there is none."""
    if not {shard.name, shard.name + BESIDE} <= there:
        return None
    raw: Any = retried(lambda: out.fs.cat_file(out.path(shard.name + BESIDE)))
    content = loaded(raw)
    if content is None or content[1].get("plan") != shard.digest:
        return None
    record = {"samples": content[0].num_rows}
    record |= {name: content[1][name] for name in ("size", "sha256", "plan")}
    return record if out.fs.size(out.path(shard.name)) == record["size"] else None


def _refuse_others(plan: Plan, out: Storage, there: set[str]) -> None:
    others = sorted(name for name in there if name.endswith(".tar") and name not in plan.names)
    if others:
        raise UsageError(
            f"out={out.out}: {others[0]} ({len(others)} such tars) is no part of this packing; "
            "remove it, or give another out"
        )


def _write(out: Storage, name: str, content: bytes) -> None:
    try:
        retried(lambda: out.write(out.path(name), content))
    except Exception as error:  # stores' clients have errors of their own
        raise RunError(
            f"out={out.out}: {name} cannot be written: {one_line(error)}; mend it and run the "
            "same command, what is packed stays"
        ) from None


def _sweep(plan: Plan, out: Storage) -> None:
    """Remove what killed packers were about to rename."""
    for name, whole in out.unfinished().items():
        if whole.removesuffix(BESIDE) in plan.names:
            with suppress(OSError):
                out.remove(out.path(name))
