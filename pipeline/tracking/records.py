"""Which W&B runs belong to a run directory: <out>/wandb-runs/<id>.json, one file a run."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from pipeline.rows import Storage

FOLDER = "wandb-runs"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A W&B run of a run directory.

    `base`: its id without the number of an offline repetition; `artifact`: what it logs; `uses`:
    artifacts of other runs that it stands on; `content`: id of the aggregation that it holds.
    """

    id: str
    base: str = ""
    job: str = "evaluate"
    mode: str = "offline"
    artifact: str = ""
    uses: Sequence[str] = ()
    content: str = ""


def read(place: Storage) -> list[Record]:
    """All of them, by id."""
    known = {field.name for field in fields(Record)}
    found = []
    for name in place.names(FOLDER):
        told = json.loads(place.fs.cat_file(place.path(FOLDER, name)))
        found.append(Record(**{key: value for key, value in told.items() if key in known}))
    return found


def write(place: Storage, record: Record) -> None:
    """Add one, or replace that of the same id."""
    content = json.dumps(asdict(record), indent=1).encode()
    place.write(place.path(FOLDER, f"{record.id}.json"), content)
