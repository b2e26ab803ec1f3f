"""What images have in common, to cluster them or to tell them apart: by a column of their rows, by
the beginning of their keys, or by a field of their samples' json."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline import UsageError
from pipeline.components import component
from pipeline.data import SampleRef
from pipeline.data.ranges import read_members
from pipeline.statistics.scan import Scan

READERS = 16
FORMS = "a column such as label, key:<what ends the part that counts>, or json.<field>"


def values(scan: Scan, name: str, setting: str, plugins: Sequence[str] = ()) -> list[Any]:
    """The attribute of each row, None where it has none.

    Raises UsageError that names the setting where there is no such attribute.
    """
    form, _, rest = name.partition(":")
    if form == "key" and rest:
        return [key.split(rest)[0] for key in scan.column("key")]
    form, _, field = name.partition(".")
    if form == "json" and field:
        return _fields(scan, field, setting, plugins)
    if name not in scan.rows.column_names:
        raise UsageError(f"{setting}={name}: no row has it; give {FORMS}")
    return scan.column(name)


def chosen(scan: Scan, subset: str, plugins: Sequence[str] = ()) -> np.ndarray:
    """Which rows are of a subset: `all`, `correct` (the prediction is the label), `wrong` (there is
    a label, and it is another), or
    <attribute>:<value>.

    Raises UsageError for one without rows.
    """
    if subset == "all":
        return np.ones(len(scan), dtype=bool)
    if subset in ("correct", "wrong"):
        found = scan.right_N == (subset == "correct")
        said = "equals" if subset == "correct" else "differs from"
        if not found.any():
            raise UsageError(f"subset={subset}: no image has a label that its prediction {said}")
        return found
    name, _, value = subset.rpartition(":")
    if not name:
        raise UsageError(f"subset={subset}: use all, correct, wrong or <attribute>:<value>")
    known = [str(one) for one in values(scan, name, "subset", plugins)]
    found = np.array([one == value for one in known], dtype=bool)
    if not found.any():
        some = ", ".join(sorted(set(known))[:5])
        raise UsageError(f"subset={subset}: no row is; {name} is {some}, ...")
    return found


def codes(found: Sequence[Any]) -> np.ndarray:
    """A number for each distinct value, -1 for None."""
    known: dict[Any, int] = {}
    return np.array([-1 if v is None else known.setdefault(v, len(known)) for v in found])


def _fields(scan: Scan, field: str, setting: str, plugins: Sequence[str]) -> list[Any]:
    """Read from the shards that the rows' files name."""
    made = {f: entry for entry in scan.run.metadata() for f in entry["fingerprints"].values()}
    prints = pc.unique(scan.rows["fingerprint"]).to_pylist()
    nodes = [made[f]["config"]["dataset"] for f in prints if f in made]
    found: dict[tuple[str, str], Any] = {}
    for node in {json.dumps(node, sort_keys=True): node for node in nodes}.values():
        found |= _of_samples(component(node, "dataset", plugins), field)
    places = zip(scan.column("shard"), scan.column("key"), strict=True)
    every = [found.get(place) for place in places]
    if all(value is None for value in every):
        raise UsageError(f"{setting}=json.{field}: no sample has that field")
    return every


def _of_samples(data: Any, field: str) -> Mapping[tuple[str, str], Any]:
    def read(ref: SampleRef) -> tuple[tuple[str, str], Any]:
        place = (ref.shard, ref.key)
        if ref.error or "json" not in ref.members:
            return place, None
        try:
            told = json.loads(read_members(ref.url, [ref.members["json"]])[0])
        except ValueError:  # its row has failed, or never looked there
            return place, None
        value = told.get(field) if isinstance(told, dict) else None
        return place, json.dumps(value) if isinstance(value, list | dict) else value

    with ThreadPoolExecutor(READERS) as pool:
        return dict(pool.map(read, data.index()))
