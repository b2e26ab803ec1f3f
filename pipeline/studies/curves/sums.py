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
    for start in range(0, len(every), at_once):
        some = every[start : start + at_once]
        found |= {group: Tally() for group in some}
        mine_N = np.isin(group_N, some) & scan.ok_N
        for rows, table in scan.only(mine_N).batches(READ):
            numbers = np.flatnonzero(mine_N)[rows]
            drawn = _Weights(unit_N[numbers], settings)
            for group in np.unique(group_N[numbers]).tolist():
                here = group_N[numbers] == group
                mine = numbers[here]
                values_N[mine] = _add(
                    found[group],
                    table.filter(pa.array(here)),
                    scan.right_N[mine],
                    drawn.of(here),
                    grid_G,
                    objective_of[group],
                )[settings["quantity"]]
    return found, values_N


class _Weights:
    """Of a batch's rows: those of one image have the same, drawn once."""

    def __init__(self, unit_n: np.ndarray, settings: Mapping[str, Any]):
        one_u, self._place_n = np.unique(unit_n, return_inverse=True)
        self._drawn_Ru = draws.weights(one_u, settings["resamples"], settings["seed"])

    def of(self, chosen_n: np.ndarray) -> np.ndarray:
        return self._drawn_Ru[:, self._place_n[chosen_n]]


def _add(
    tally: Tally,
    table: pa.Table,
    right_n: np.ndarray,
    weights_Rn: np.ndarray,
    grid_G: np.ndarray,
    objective: str,
) -> dict[str, np.ndarray]:
    """Take note of rows of one group; QUANTITIES of each, (n,), among others."""
    scalars_nS = np.full((len(table), len(SCALARS)), np.nan)
    curves_nK = np.full((len(table), len(CURVES) * len(grid_G)), np.nan)
    of = {name: floats(table[name]) for name in (*AUCS, *MEANS)}
    of["value"] = floats(pc.coalesce(table["value"], table[OF_CURVE]))
    of[NORMALISED] = np.full(len(table), np.nan)
    there_n = np.asarray(table["fraction"].is_valid())
    tally.whole &= bool(there_n.all())
    if there_n.any():
        curved = table.filter(pa.array(there_n))
        curves = Curves(curved["fraction"])
        curves_nK[there_n] = np.hstack(curves.at(grid_G, [curved[name] for name in CURVES]))
        scalars_nS[there_n, len(AUCS) + 1 :], missed_B = highest(curved)
        tally.missed += missed_B
        of[NORMALISED][there_n] = _normalised(curves, curved, objective)
    for j, name in enumerate((*AUCS, "value")):
        scalars_nS[:, j] = of[name]
    for name in MEANS:
        known_n = np.isfinite(of[name])
        tally.sums[name] += of[name][known_n].sum()
        tally.counts[name] += int(known_n.sum())
    values_nK = np.hstack([scalars_nS, curves_nK])
    for part in np.unique(right_n).tolist():
        _sums(tally.parts, part, weights_Rn, values_nK).add(
            values_nK[right_n == part], weights_Rn[:, right_n == part]
        )
    known_n = np.isfinite(of[NORMALISED])
    if tally.normalised is None:
        tally.normalised = Sums.nothing(len(weights_Rn), 1)
    tally.normalised.add(of[NORMALISED][known_n, None], weights_Rn[:, known_n])
    return of


def _sums(parts: dict[int, Sums], part: int, weights_Rn: np.ndarray, values_nK: np.ndarray) -> Sums:
    if part not in parts:
        parts[part] = Sums.nothing(len(weights_Rn), values_nK.shape[1])
    return parts[part]


def _normalised(curves: Curves, rows: pa.Table, objective: str) -> np.ndarray:
    """(AUC - p of the empty image) / (p of the whole one - p of the empty); NaN where the whole
    image is not clearly more probable."""
    y_P, _ = curves.values(rows["probability"])
    first_n, last_n = y_P[curves.first_n], y_P[curves.end_n - 1]
    empty_n, whole_n = (first_n, last_n) if objective == "insertion" else (last_n, first_n)
    between_n = np.where(whole_n - empty_n > ENDS, whole_n - empty_n, np.nan)
    return (floats(rows[OF_CURVE]) - empty_n) / between_n


def floats(values: pa.ChunkedArray) -> np.ndarray:
    """NaN for null."""
    return pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)


def total(tallies: Sequence[Tally], parts: Sequence[int] = (0, 1, -1)) -> Sums | None:
    """Sums over some PARTS of groups, those of seeds of one control together."""
    found = [tally.parts[part] for tally in tallies for part in parts if part in tally.parts]
    return sum(found[1:], found[0]) if found else None
