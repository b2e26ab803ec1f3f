"""Rows whose orders are those that are wanted: of earlier runs, and of other cells just now."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from pipeline.data import SampleRef
from pipeline.rows import RunDir
from pipeline.rows.storage import retried
from pipeline.work import Known, Row, Work
from pipeline.workers.lease import Asked


def known_rows(work: Work, ref: SampleRef, asked: Asked, found: Sequence[Row]) -> Known:
    """By what is wanted. `found`: rows of cells that asked for the image before. Raises ValueError
    where a part that held an order is there no more."""
    if not asked.known and not found:
        return {}
    kind = work.kind
    place = {"shard": ref.shard, "key": ref.key, "status": "ok"}
    rows = _by_order(found, kind.facet)
    for part in set(asked.known.values()):
        read = partial(RunDir(part.out, kind).read_rows, part.name, **place)
        try:
            rows |= _by_order(retried(read), kind.facet)
        except FileNotFoundError:  # nobody locks a run that another one reads
            raise ValueError(
                f"{part.out} was rewritten meanwhile: {part.name}, which held the order, is "
                "there no more"
            ) from None
    orders = {(m, f): (work.order_fingerprints.get(m), f) for m, f in asked.wanted}
    return {place: rows[order] for place, order in orders.items() if order in rows}


def _by_order(rows: Iterable[Row], facet: str) -> dict[tuple[Any, Any], Row]:
    """Rows that are ok, by the address of the order that they hold."""
    return {
        (row["order_fingerprint"], row[facet]): row
        for row in rows
        if row["status"] == "ok" and row.get("order_fingerprint")
    }
