"""What the sums over a group's rows say: its row of the summary, its mean curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.report import Name
from pipeline.statistics import Band
from pipeline.statistics.scan import Scan
from pipeline.studies.curves.seeds import Pool
from pipeline.studies.curves.sums import (
    AUCS,
    CURVES,
    HIGHEST,
    MEANS,
    NORMALISED,
    OF_CURVE,
    PARTS,
    SCALARS,
    Tally,
    total,
)

SHARES = {*AUCS, *HIGHEST, "probability", "top1"}
"""What lies between 0 and 1, and so do its intervals."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Statistics of one fingerprint and objective, or of the seeds of one control together.

    `summary` is its row of summary.parquet; `curves` holds the mean of each of CURVES, `subsets`
    the same of the images that the model gets right (`correct`) and wrong, where labels are known,
    `counts` how many these are.
    """

    summary: dict[str, Any]
    name: Name
    fraction_G: np.ndarray
    curves: Mapping[str, Band]
    subsets: Mapping[str, Mapping[str, Band]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


class Told:
    """What tallies say of groups."""

    def __init__(
        self, scan: Scan, group_N: np.ndarray, unit_N: np.ndarray, settings: Mapping[str, Any]
    ):
        self.scan, self.group_N, self.unit_N, self.settings = scan, group_N, unit_N, settings
        self.grid_G = np.linspace(0, 1, settings["grid"])

    def rows(self, groups: Sequence[int], of: Sequence[int] = (0, 1, -1)) -> np.ndarray:
        """Which rows of groups are ok and of so many PARTS."""
        mine_N = np.isin(self.group_N, groups) & self.scan.ok_N
        return mine_N & np.isin(self.scan.right_N, of)

    def band(
        self, groups: Sequence[int], tallies: Mapping[int, Tally], of: Sequence[int] = (0, 1, -1)
    ) -> Band | None:
        """Of all columns."""
        sums = total([tallies[i] for i in groups if i in tallies], of)
        if sums is None:
            return None
        units = len(np.unique(self.unit_N[self.rows(groups, of)]))
        return sums.band(units, self.settings["confidence"])

    def summary(
        self, i: int, key: Mapping[str, Any], title: str, tally: Tally | None
    ) -> dict[str, Any]:
        """A row of summary.parquet, without what is printed."""
        every, good_N = self.group_N == i, self.rows([i])
        measures = self.scan.rows["measure"].filter(pa.array(good_N)).drop_null()
        summary = {"title": title} | dict(key)
        summary |= {
            "subset": self.settings["subset"],
            "n": int(good_N.sum()),
            "failed": int(every.sum() - good_N.sum()),
            "measure": measures[0].as_py() if len(measures) else OF_CURVE,
        }
        whole = tally is not None and tally.whole and key["objective"] == "insertion"
        if whole and tally is not None:
            missed = zip(HIGHEST, tally.missed.tolist(), strict=True)
            summary |= {name.replace("highest", "missed"): number for name, number in missed}
        names = [name for name in SCALARS if whole or name not in HIGHEST]
        summary |= self._means([i], {} if tally is None else {i: tally}, names)
        summary |= {column: tally.mean(column) if tally else float("nan") for column in MEANS}
        if summary["measure"] in SHARES:
            summary["value_low"] = max(summary["value_low"], 0.0)
            summary["value_high"] = min(summary["value_high"], 1.0)
        right = self.scan.right_N[good_N]
        right = right[right >= 0]
        return summary | {"accuracy": float(right.mean()) if len(right) else float("nan")}

    def _means(
        self, groups: Sequence[int], tallies: Mapping[int, Tally], names: Sequence[str]
    ) -> dict[str, float]:
        """Columns of SCALARS with their bounds, and the normalised area."""
        band = self.band(groups, tallies) or Band.nothing(len(SCALARS))
        found: dict[str, float] = {}
        for j, name in enumerate(SCALARS):
            if name in names:
                found |= _bounded(name, *(float(y_G[j]) for y_G in vars(band).values()))
        sums = [tallies[i].normalised for i in groups if i in tallies]
        sums = [one for one in sums if one is not None and one.n]
        units = len(np.unique(self.unit_N[self.rows(groups)]))
        normal = sum(sums[1:], sums[0]).band(units, self.settings["confidence"]) if sums else None
        normal = normal or Band.nothing(1)
        found |= _bounded(NORMALISED, *(float(y_G[0]) for y_G in vars(normal).values()))
        return found | {"n_normalised": sum(one.n for one in sums)}

    def group(
        self,
        summary: dict[str, Any],
        name: Name,
        groups: Sequence[int],
        tallies: Mapping[int, Tally],
    ) -> Group:
        """With its curves."""
        subsets = {
            PARTS[part]: curves
            for part in (1, 0)
            if (curves := self._curves(groups, tallies, [part])) is not None
        }
        counts = {
            PARTS[part]: len(np.unique(self.scan.image_N[self.rows(groups, [part])]))
            for part in (1, 0)
        }
        nothing = {name: Band.nothing(len(self.grid_G)) for name in CURVES}
        curves = self._curves(groups, tallies) or nothing
        return Group(
            summary=summary,
            name=name,
            fraction_G=self.grid_G,
            curves=curves,
            subsets=subsets,
            counts=counts,
        )

    def _curves(
        self, groups: Sequence[int], tallies: Mapping[int, Tally], of: Sequence[int] = (0, 1, -1)
    ) -> dict[str, Band] | None:
        band, points = self.band(groups, tallies, of), len(self.grid_G)
        if band is None:
            return None
        found = {}
        for j, name in enumerate(CURVES):
            first = len(SCALARS) + j * points
            sides = {side: y_K[first : first + points] for side, y_K in vars(band).items()}
            if name in SHARES:
                sides = {side: y_G.clip(0, 1) for side, y_G in sides.items()}
            found[name] = Band(**sides)
        return found

    def pool(
        self, pool: Pool, keys: Sequence[Mapping[str, Any]], tallies: Mapping[int, Tally]
    ) -> list[Group]:
        """A group for each objective of the seeds of one control."""
        found = []
        for objective in dict.fromkeys(key["objective"] for key in keys):
            groups = [
                i
                for i, key in enumerate(keys)
                if key["objective"] == objective and key["fingerprint"] in pool.fingerprints
            ]
            if not groups:
                continue
            summary = {"title": pool.name.title} | dict(keys[groups[0]])
            summary |= {
                "method": pool.name.method,
                "subset": self.settings["subset"],
                "seeds": len(groups),
                "n": len(np.unique(self.scan.image_N[self.rows(groups)])),
            }
            summary |= self._means(groups, tallies, [*AUCS, "value"])
            found.append(self.group(summary, pool.name, groups, tallies))
        return found


def _bounded(name: str, mean: float, low: float, high: float) -> dict[str, float]:
    if name in SHARES:
        low, high = max(low, 0.0), min(high, 1.0)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}
