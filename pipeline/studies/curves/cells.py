"""What can be compared: methods that were judged alike, as a matrix of images and methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pipeline import UsageError
from pipeline.components import component
from pipeline.report import Name
from pipeline.statistics.direction import direction
from pipeline.statistics.scan import Scan
from pipeline.studies.curves.seeds import Pool
from pipeline.studies.names import Key

ALIKE = ("dataset", "model", "weights", "players", "curve_masking", "judge", "objective", "measure")
"""Labels in which methods of a cell agree."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A method in a cell, or the seeds of one: `label` is alike wherever the method is judged;
    `own`: it searched under the masking that judges it now."""

    name: Name
    label: str
    fingerprints: tuple[str, ...]
    own: bool


@dataclass(frozen=True, kw_only=True)
class Cell:
    """M methods judged alike on n images: the quantity of each (NaN where there is none), where
    `sign` +1 says that more is better, -1 that less is; `seeds_sd`: the standard deviation of the
    means of a method's seeds, NaN of one alone."""

    labels: Mapping[str, Any]
    members: Sequence[Member]
    value_nM: np.ndarray
    image_n: np.ndarray
    cluster_n: np.ndarray
    unit_n: np.ndarray
    seeds_sd: Sequence[float]
    sign: int

    @cached_property
    def whole_n(self) -> np.ndarray:
        """Images of which every method has a value."""
        return np.asarray(np.isfinite(self.value_nM).all(1))

    def place(self, method: str) -> int | None:
        """Of a method by its title or label."""
        names = [(m.name.title, m.name.method, m.label) for m in self.members]
        return next((i for i, name in enumerate(names) if method in name), None)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What cells are made of: groups' keys, names by fingerprint, measures; of each of N rows its
    group, quantity, cluster (its image, unless images are clustered) and unit (see `draws`)."""

    keys: Sequence[Key]
    names: Mapping[str, Name]
    measures: Sequence[str]
    group_N: np.ndarray
    value_N: np.ndarray
    cluster_N: np.ndarray
    unit_N: np.ndarray
    pools: Sequence[Pool]
    quantity: str


def cells(
    scan: Scan,
    judged: Judged,
    provenance: Sequence[Mapping[str, Any]],
    plugins: Sequence[str],
) -> list[Cell]:
    """Every cell, in the order of its first group."""
    made = {f: entry for entry in provenance for f in entry.get("fingerprints", {}).values()}
    pool_of = {f: pool for pool in judged.pools for f in pool.fingerprints}
    found: dict[tuple[Any, ...], dict[tuple[str, ...], list[int]]] = {}
    for i, key in enumerate(judged.keys):
        told = dict(key) | {"measure": judged.measures[i]}
        pool = pool_of.get(key["fingerprint"])
        prints = pool.fingerprints if pool else (key["fingerprint"],)
        cell = found.setdefault(tuple(told.get(c) for c in ALIKE), {})
        cell.setdefault(prints, []).append(i)
    return [
        _cell(dict(zip(ALIKE, said, strict=True)), groups, scan, judged, made, pool_of, plugins)
        for said, groups in found.items()
    ]


def _cell(
    labels: Mapping[str, Any],
    groups: Mapping[tuple[str, ...], list[int]],
    scan: Scan,
    judged: Judged,
    made: Mapping[str, Mapping[str, Any]],
    pool_of: Mapping[str, Pool],
    plugins: Sequence[str],
) -> Cell:
    mine_N = np.isin(judged.group_N, [i for every in groups.values() for i in every])
    image_n, first = np.unique(scan.image_N[mine_N], return_index=True)
    members, columns, spreads = [], [], []
    for prints, every in groups.items():
        key = judged.keys[every[0]]
        pool = pool_of.get(key["fingerprint"])
        name = pool.name if pool else judged.names[key["fingerprint"]]
        method = name.method if pool else key["method"]
        own = key.get("masking") == labels["curve_masking"]
        own = own and _searches(key["fingerprint"], made, plugins)
        members.append(Member(name=name, label=str(method), fingerprints=prints, own=own))
        seeds = [_values(scan, judged, i, image_n) for i in every]
        columns.append(np.mean(seeds, axis=0))
        means = [float(np.nanmean(seed)) if np.isfinite(seed).any() else np.nan for seed in seeds]
        spreads.append(float(np.std(means, ddof=1)) if len(means) > 1 else float("nan"))
    known = [m.label for m in members]
    members = [m if known.count(m.label) == 1 else replace(m, label=m.name.title) for m in members]
    return Cell(
        labels=labels,
        members=members,
        value_nM=np.stack(columns, 1),
        image_n=image_n,
        cluster_n=judged.cluster_N[mine_N][first],
        unit_n=judged.unit_N[mine_N][first],
        seeds_sd=spreads,
        sign=direction(_measured(judged, str(labels["measure"])), str(labels["objective"])),
    )


def _measured(judged: Judged, measure: str) -> str:
    """What is compared: the judge's measure, or an area of its curve."""
    if judged.quantity == "value" or measure.endswith("least_first"):
        return measure
    return judged.quantity


def _values(scan: Scan, judged: Judged, group: int, image_n: np.ndarray) -> np.ndarray:
    """A group's quantity by image, NaN where it failed."""
    mine_N = (judged.group_N == group) & scan.ok_N
    value_n = np.full(len(image_n), np.nan)
    value_n[np.searchsorted(image_n, scan.image_N[mine_N])] = judged.value_N[mine_N]
    return value_n


def _searches(
    fingerprint: str, made: Mapping[str, Mapping[str, Any]], plugins: Sequence[str]
) -> bool:
    """Whether a method searches; nothing is known of a class that is there no more."""
    entry = made.get(fingerprint, {})
    method = next((m for m, f in entry.get("fingerprints", {}).items() if f == fingerprint), None)
    node = entry.get("config", {}).get("methods", {}).get(method)
    try:
        return bool(component(node, allowed=plugins).searches)
    except (UsageError, AttributeError):
        return False
