"""One pass over a run's curves: weighted sums for each group, in memory that rows do not grow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.statistics import draws
from pipeline.statistics.draws import Sums
from pipeline.statistics.scan import Scan
from pipeline.studies.curves.grid import Curves
from pipeline.studies.curves.highest import BUDGETS, highest

AUCS = ("auc_probability", "auc_top1")
OF_CURVE = "auc_probability"
"""What a judge measures that says nothing else."""
MEANS = ("flip", "evaluations", "seconds")
CURVES = ("probability", "top1", "log_odds")
HIGHEST = tuple(f"highest_{budget}" for budget in BUDGETS)
SCALARS = (*AUCS, "value", *HIGHEST)
NORMALISED = "auc_normalised"
QUANTITIES = (*AUCS, "value", NORMALISED)
"""What methods can be compared by."""
READ = ("fraction", *CURVES, *AUCS, "value", *MEANS)
ENDS = 0.01
"""Where the whole image is no more than this above the empty one, nothing is to be normalised."""
MEMORY = 2**30
"""Bytes of weighted sums held at once; more groups take more passes."""
PARTS = ("wrong", "correct", "unlabelled")
"""By `Scan.right_N`, whose -1 is the last."""


@dataclass
class Tally:
    """Of one group: `parts` by PARTS, columns SCALARS and then CURVES at each fraction; `whole`:
    whether every row has a curve; sums and counts of `means`."""

    parts: dict[int, Sums] = field(default_factory=dict)
    normalised: Sums | None = None
    whole: bool = True
    missed: np.ndarray = field(default_factory=lambda: np.zeros(len(BUDGETS), dtype=int))
    sums: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def mean(self, column: str) -> float:
        """Of MEANS, over rows that have it."""
        return self.sums[column] / self.counts[column] if self.counts[column] else float("nan")


def tallied(
    scan: Scan,
    group_N: np.ndarray,
    unit_N: np.ndarray,
    objective_of: Mapping[int, str],
    settings: Mapping[str, Any],
) -> tuple[dict[int, Tally], np.ndarray]:
    """A tally of each group, and settings["quantity"] of each row (NaN where there is none).

    `group_N`: the group of each row; `unit_N`: its image or cluster (see `draws`); `objective_of`
    groups.
    """
    grid_G = np.linspace(0, 1, settings["grid"])
    columns = len(SCALARS) + len(CURVES) * len(grid_G)
    at_once = max(1, MEMORY // (8 * settings["resamples"] * columns * 2))
    every, values_N = sorted(set(group_N.tolist())), np.full(len(scan), np.nan)
    found: dict[int, Tally] = {}
    deletion_N = np.array([objective_of[group] == "deletion" for group in group_N.tolist()])
    for start in range(0, len(every), at_once):
        some = every[start : start + at_once]
        found |= {group: Tally() for group in some}
        mine_N = np.isin(group_N, some) & scan.ok_N
        mine = np.flatnonzero(mine_N)
        for rows, table in scan.only(mine_N).batches(READ):
            numbers = mine[rows]
            batch = _Batch(table, deletion_N[numbers], grid_G)
            values_N[numbers] = batch.of[settings["quantity"]]
            one_u, place_n = np.unique(unit_N[numbers], return_inverse=True)
            drawn_uR = draws.weights(one_u, settings["resamples"], settings["seed"]).T
            drawn_uR = np.ascontiguousarray(drawn_uR, np.float32)  # as curves are
            for group in np.unique(group_N[numbers]).tolist():
                chosen = np.flatnonzero(group_N[numbers] == group)
                weights_nR = drawn_uR[place_n[chosen]]
                batch.add_to(found[group], chosen, scan.right_N[numbers[chosen]], weights_nR)
    return found, values_N


class _Batch:
    """Rows of any groups, read off: `values_nK` as of a `Tally`; `of`: QUANTITIES and MEANS."""

    def __init__(self, table: pa.Table, deletion_n: np.ndarray, grid_G: np.ndarray):
        self.there_n = np.asarray(table["fraction"].is_valid())
        of = {name: floats(table[name]) for name in (*AUCS, *MEANS)}
        of["value"] = floats(pc.coalesce(table["value"], table[OF_CURVE]))
        of[NORMALISED] = np.full(len(table), np.nan)
        columns = len(SCALARS) + len(CURVES) * len(grid_G)
        self.values_nK = np.full((len(table), columns), np.nan, np.float32)
        self.missed_nB = np.zeros((len(table), len(BUDGETS)), dtype=bool)
        for j, name in enumerate((*AUCS, "value")):
            self.values_nK[:, j] = of[name]
        if self.there_n.any():
            curved = table if self.there_n.all() else table.filter(pa.array(self.there_n))
            curves, there_n = Curves(curved["fraction"]), self.there_n
            read = curves.at(grid_G, [curved[name] for name in CURVES])
            self.values_nK[there_n, len(SCALARS) :] = np.hstack(read)
            highest_nB, self.missed_nB[there_n] = highest(curved)
            self.values_nK[there_n, len(AUCS) + 1 : len(SCALARS)] = highest_nB
            of[NORMALISED][there_n] = _normalised(curves, curved, deletion_n[there_n])
        self.of = of

    def add_to(
        self, tally: Tally, chosen: np.ndarray, right_n: np.ndarray, weights_nR: np.ndarray
    ) -> None:
        """Some rows to their group's tally."""
        tally.whole &= bool(self.there_n[chosen].all())
        tally.missed += self.missed_nB[chosen].sum(0)
        for name in MEANS:
            known = self.of[name][chosen]
            known = known[np.isfinite(known)]
            tally.sums[name] += known.sum()
            tally.counts[name] += len(known)
        values_nK, resamples = self.values_nK[chosen], weights_nR.shape[1]
        for part in np.unique(right_n).tolist():
            if part not in tally.parts:
                tally.parts[part] = Sums.nothing(resamples, values_nK.shape[1])
            mine_n = right_n == part
            tally.parts[part].add(values_nK[mine_n], weights_nR[mine_n].T)
        normal_n = self.of[NORMALISED][chosen]
        if tally.normalised is None:
            tally.normalised = Sums.nothing(resamples, 1)
        known_n = np.isfinite(normal_n)
        tally.normalised.add(normal_n[known_n, None], weights_nR[known_n].T)


def _normalised(curves: Curves, rows: pa.Table, deletion_n: np.ndarray) -> np.ndarray:
    """(AUC - p of the empty image) / (p of the whole one - p of the empty); NaN where the whole
    image is not clearly more probable."""
    y_P, _ = curves.values(rows["probability"])
    first_n, last_n = y_P[curves.first_n], y_P[curves.end_n - 1]
    empty_n = np.where(deletion_n, last_n, first_n)
    whole_n = np.where(deletion_n, first_n, last_n)
    between_n = np.where(whole_n - empty_n > ENDS, whole_n - empty_n, np.nan)
    return (floats(rows[OF_CURVE]) - empty_n) / between_n


def floats(values: pa.ChunkedArray) -> np.ndarray:
    """NaN for null."""
    return pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)


def total(tallies: Sequence[Tally], parts: Sequence[int] = (0, 1, -1)) -> Sums | None:
    """Sums over some PARTS of groups, those of seeds of one control together."""
    found = [tally.parts[part] for tally in tallies for part in parts if part in tally.parts]
    return sum(found[1:], found[0]) if found else None
