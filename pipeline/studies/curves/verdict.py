"""The report's first sentence: which method has the best area, by how much, how sure, on how many
images. Methods are compared where all else is the same, image by image, on the images they share.

Intervals of differences, and the share of resamples in which the best stays the best, are the
paired bootstrap's over images; beyond MANY images means are drawn from their normal distribution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report import Name
from pipeline.statistics import bootstrap_weights
from pipeline.statistics.scan import IMAGE, Scan
from pipeline.studies.names import HEADS

CELL = ("dataset", "players", "curve_masking", "judge")
"""What methods that are compared have in common, besides the model."""
MANY = 2000
BETTER = {"insertion": 1, "deletion": -1}
"""Larger areas are better, or smaller ones."""


@dataclass(frozen=True)
class Rival:
    """Another method: how far the best is ahead of it, on average, and on how many images."""

    title: str
    difference: float
    low: float
    high: float
    behind: int

    @property
    def tied(self) -> bool:
        """Whether it may be as good."""
        return self.low <= 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The best of a cell for one objective; `rivals`, nearest first; `sure`: share of resamples in
    which it is the best; `marks`: "best" or "tie" by fingerprint."""

    where: str
    objective: str
    title: str
    area: float
    n: int
    sure: float
    rivals: Sequence[Rival]
    marks: Mapping[str, str]

    @property
    def tied(self) -> Sequence[Rival]:
        """Those that cannot be told apart from it."""
        return [rival for rival in self.rivals if rival.tied]


def verdicts(
    scan: Scan,
    names: Mapping[str, Name],
    summaries: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> list[Verdict]:
    """Of each cell with several methods, and each objective."""
    cells: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for s in summaries:
        if s["n"] and s["measure"] == "auc_probability" and not np.isnan(s["auc_probability"]):
            cell = (*(str(s.get(c)) for c in CELL), names[s["fingerprint"]].model, s["objective"])
            cells.setdefault(cell, {})[s["fingerprint"]] = s
    several = {cell: found for cell, found in cells.items() if len(found) > 1}
    if not several:
        return []
    rows = _rows(scan)
    varying = [i for i in range(len(CELL) + 1) if len({cell[i] for cell in several}) > 1]
    found = []
    for cell, mine in sorted(several.items(), key=lambda pair: pair[0][-1] != "insertion"):
        said = [f"{HEADS[(*CELL, 'model')[i]]} {cell[i]}" for i in varying]
        titles = {fingerprint: names[fingerprint].title for fingerprint in mine}
        areas_nM = _areas(rows, list(mine), cell[-1])
        if len(areas_nM) > 1:
            found.append(_verdict(", ".join(said), cell[-1], titles, areas_nM, settings))
    return found


def _rows(scan: Scan) -> pa.Table:
    """Image, method, objective and area of the rows that are no failures."""
    area_N = np.full(len(scan), np.nan)
    for rows, table in scan.batches(["auc_probability"]):
        area_N[rows] = table["auc_probability"].to_numpy(zero_copy_only=False)
    said = scan.rows.select([*IMAGE, "fingerprint", "objective"])
    columns = {name: said[name].cast(pa.string()) for name in said.column_names}
    return pa.table(columns | {"auc_probability": area_N}).filter(pa.array(scan.ok_N))


def _areas(rows: pa.Table, fingerprints: Sequence[str], objective: str) -> np.ndarray:
    """Areas (n, M) of the images that all M methods have."""
    mine = rows.filter(pc.equal(rows["objective"], objective))
    mine = mine.filter(pc.is_in(mine["fingerprint"], value_set=pa.array(fingerprints)))
    where = [pc.fill_null(mine[column].cast(pa.string()), "") for column in IMAGE]
    places = pc.binary_join_element_wise(*where, "\n").combine_chunks().dictionary_encode()
    method = pc.index_in(mine["fingerprint"], value_set=pa.array(fingerprints))
    areas_nM = np.full((len(places.dictionary), len(fingerprints)), np.nan)
    areas_nM[np.asarray(places.indices), np.asarray(method)] = np.asarray(mine["auc_probability"])
    order = np.argsort(places.dictionary.to_pylist())  # resamples draw the same in any order
    areas_nM = areas_nM[order]
    return areas_nM[~np.isnan(areas_nM).any(1)]


def _verdict(
    where: str,
    objective: str,
    titles: Mapping[str, str],
    areas_nM: np.ndarray,
    settings: Mapping[str, Any],
) -> Verdict:
    n, sign = len(areas_nM), BETTER[objective]
    mean_M = areas_nM.mean(0)
    means_RM = sign * _means(areas_nM, settings["resamples"], settings["seed"])
    best = int((sign * mean_M).argmax())
    tail = (1 - settings["confidence"]) / 2
    ahead_RM = means_RM[:, [best]] - means_RM
    low_M, high_M = np.quantile(ahead_RM, [tail, 1 - tail], axis=0)
    behind_M = (sign * (areas_nM[:, [best]] - areas_nM) > 0).sum(0)
    fingerprints = list(titles)
    others = [m for m in np.argsort(-sign * mean_M, kind="stable") if m != best]
    rivals = [
        Rival(
            titles[fingerprints[m]],
            float(sign * (mean_M[best] - mean_M[m])),
            float(low_M[m]),
            float(high_M[m]),
            int(behind_M[m]),
        )
        for m in others
    ]
    tied = [m for m, rival in zip(others, rivals, strict=True) if rival.tied]
    return Verdict(
        where=where,
        objective=objective,
        title=titles[fingerprints[best]],
        area=float(mean_M[best]),
        n=n,
        sure=float((ahead_RM >= 0).all(1).mean()),
        rivals=rivals,
        marks={fingerprints[best]: "best"} | {fingerprints[m]: "tie" for m in tied},
    )


def _means(values_nM: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means over resampled images (R, M), the same images for all."""
    n = len(values_nM)
    if n > MANY:
        rng, cov_MM = np.random.default_rng(seed), np.atleast_2d(np.cov(values_nM.T)) / n
        return rng.multivariate_normal(values_nM.mean(0), cov_MM, resamples, method="eigh")
    return np.concatenate([w_Rn @ values_nM for w_Rn in bootstrap_weights(n, resamples, seed)])
