"""Which cells a run directory holds: <out>/sweep.json, options and content addresses of each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline import UsageError
from pipeline.rows import Storage
from pipeline.rows.storage import retried

FILE = "sweep.json"


@dataclass(frozen=True)
class Swept:
    """A cell: a value for each option, the fingerprint of each method's rows."""

    options: Mapping[str, str]
    fingerprints: Mapping[str, str]


def add(place: Storage, cells: Sequence[Swept]) -> None:
    """Remember cells beside those of earlier sweeps."""
    known = {json.dumps(asdict(cell), sort_keys=True): cell for cell in [*read(place), *cells]}
    content = json.dumps({"cells": [asdict(cell) for cell in known.values()]}, indent=1)
    retried(lambda: place.write(place.path(FILE), content.encode()))


def read(place: Storage) -> list[Swept]:
    """Cells of all sweeps; none where there was none. Raises UsageError for a damaged file."""
    path = place.path(FILE)
    try:
        content: Any = retried(lambda: place.fs.cat_file(path))
        return [Swept(**cell) for cell in json.loads(content)["cells"]]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{path} is damaged; remove it and run the sweep again") from None
