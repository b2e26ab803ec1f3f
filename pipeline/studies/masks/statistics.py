"""Mask rows to statistics: phi and what surrounds it, with bootstrap intervals over images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipeline.methods.undesirable import Undesirable
from pipeline.report import Name
from pipeline.rows import RunDir
from pipeline.statistics import Band, Rows, bootstrap_weights, grouped, intervals, selected
from pipeline.studies.masks.controls import CONTROLS
from pipeline.studies.masks.rows import THRESHOLD, THRESHOLDS
from pipeline.studies.names import names

SATURATED = 1e-4
"""Residual under which phi says little: its denominator is next to nothing."""
FLAT = 1e-3
"""Slope f (1 - f) of the probability under which it hardly leads anywhere."""
WORSE = 1e-4
"""Loss above that of M = 1 from which a mask is worse than none; below, it is M = 1, rounded."""
BASE = "undesirable_base"
"""The method that others are to be more consistent than."""
CONFIDENCE = ((0, 50), (50, 90), (90, 99), (99, 100))
"""Probabilities of the target, in percent, between which images are told apart."""


@dataclass(frozen=True, kw_only=True)
class MaskGroup:
    """Statistics of one fingerprint.

    `summary` is its row of undesirable.parquet; `fractions` the mean share of undesirable pixels
    over THRESHOLDS.
    """

    summary: dict[str, Any]
    name: Name
    fractions: Band


@dataclass(frozen=True, kw_only=True)
class MaskAggregate:
    """All groups of a run and the rows that they stand on; `names` by fingerprint."""

    groups: list[MaskGroup]
    names: Mapping[str, Name]
    rows: pa.Table


def aggregate(run: RunDir, settings: Mapping[str, Any]) -> MaskAggregate:
    """Group the rows of a run; an image's trials are averaged before anything else.

    Raises UsageError for a run without rows to stand on.
    """
    rows = selected(run, settings["subset"])
    groups = grouped(rows)
    # methods stay as they were asked for
    groups.sort(key=lambda group: (str(group.key["dataset"]), str(group.key["model"])))
    named = names([group.key for group in groups], run.metadata())
    found = [_Statistics(g, named[g.key["fingerprint"]], settings) for g in groups]
    stated = [one.group() for one in found]
    compared = [one for one in found if one.n]
    bases = [one for one in compared if one.summary["method"] == BASE]
    if len(bases) == 1:  # among several it is not known whose base is whose
        for one in compared:
            one.compare(bases[0])
    return MaskAggregate(groups=stated, names=named, rows=rows)


class _Statistics:
    """Of one group; `_n` arrays hold a value per image."""

    def __init__(self, group: Rows, name: Name, settings: Mapping[str, Any]):
        good = group.rows.filter(pc.equal(group.rows["status"], "ok"))
        self.rows, self.name = good, name
        places = list(zip(good["shard"].to_pylist(), good["key"].to_pylist(), strict=True))
        index = {place: i for i, place in enumerate(dict.fromkeys(places))}
        self.places = list(index)
        self.image = np.array([index[place] for place in places], dtype=int)
        self.n = len(index)
        self.summary: dict[str, Any] = {"title": name.title} | group.key
        self.summary |= {
            "subset": settings["subset"],
            "n": self.n,
            "trials": len(good) / self.n if self.n else 0.0,
            "failed": len(group.rows) - len(good),
        }
        self.alike: dict[str, np.ndarray] = {}
        self.bootstrap = {key: settings[key] for key in ("resamples", "seed", "confidence")}
        self.ratios: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.medians: dict[str, np.ndarray] = {}

    def group(self) -> MaskGroup:
        if not self.n:
            nothing = Band.nothing(len(THRESHOLDS))
            return MaskGroup(summary=self.summary, name=self.name, fractions=nothing)
        before_n = self.of("residual_before")
        self.phis(before_n)
        self.confidence(before_n)
        self.mean("undesirable", self.of("undesirable"))
        self.mean("undesirable_normalised", self.of("undesirable_normalised"))
        self.mean("area", self.of("area"))
        self.mean("probability_before", self.of("probability_before"))
        self.mean("probability_after", self.of("probability_after"))
        self.drifts()
        for name in ("improved", "converged"):
            self.mean(name, self.of(name))
        worse = self.column("loss_after") > self.column("loss_ones") + WORSE
        self.mean("worse", self.per_image(worse.astype(float)))
        self.accuracy()
        self.consistency()
        self.mean("seconds", self.of("seconds"))
        self.resample()
        return MaskGroup(summary=self.summary, name=self.name, fractions=self.fractions())

    def column(self, name: str) -> np.ndarray:
        """Float64, a value per row, NaN where there is none."""
        return self.rows[name].cast(pa.float64()).to_numpy()

    def of(self, name: str) -> np.ndarray:
        return self.per_image(self.column(name))

    def per_image(self, values: np.ndarray) -> np.ndarray:
        """Mean over an image's trials, (n,)."""
        return np.bincount(self.image, values, self.n) / np.bincount(self.image, minlength=self.n)

    def phis(self, before_n: np.ndarray) -> None:
        """phi as printed, without saturated images, its median and the ratio of sums; controls."""
        after_n = self.of("residual_after")
        phi_n = recovered(before_n, after_n)
        fit_n = before_n >= SATURATED
        self.summary["saturated"] = int((~fit_n).sum())
        self.summary["flat"] = int((before_n * (1 - before_n) < FLAT).sum())
        self.mean("phi_printed", phi_n)
        self.mean("phi", phi_n, fit_n)
        self.median("phi_median", phi_n)
        self.ratio("phi_ratio", 100 * (before_n - after_n), before_n)
        self.mean("phi_best", recovered(before_n, self.of("residual_best")), fit_n)
        for name in CONTROLS:
            control_n = recovered(before_n, self.of(f"residual_{name}"))
            known_n = np.isfinite(self.of(f"residual_{name}"))
            there_n = fit_n & known_n
            self.mean(f"phi_{name}", control_n, there_n)
            self.mean(f"phi_above_{name}", phi_n - control_n, there_n)
            won_n = 100 * (before_n - self.of(f"residual_{name}"))
            self.ratio(f"phi_ratio_{name}", won_n, before_n, known_n)

    def confidence(self, before_n: np.ndarray) -> None:
        """phi among images of like probability of the target."""
        phi_n = recovered(before_n, self.of("residual_after"))
        p_n = 100 * (1 - before_n)
        for low, high in CONFIDENCE:
            inside_n = (p_n >= low) & ((p_n < high) | (high == 100)) & (before_n >= SATURATED)
            self.summary[f"n_{low}_{high}"] = int(inside_n.sum())
            self.mean(f"phi_{low}_{high}", phi_n, inside_n)

    def drifts(self) -> None:
        """Mean absolute changes of logits, also for each unit of probability that was won: a mask
        that changes nothing holds everything."""
        won_n = self.of("probability_after") - self.of("probability_before")
        for name, column in (("target", "logit"), ("others", "others")):
            change = self.column(f"{column}_after") - self.column(f"{column}_before")
            drift_n = self.per_image(np.abs(change))
            self.mean(f"{name}_drift", drift_n)
            self.ratio(f"{name}_drift_per_gain", drift_n, won_n)

    def accuracy(self) -> None:
        """Top-1 and top-5 accuracy of labelled images before and after."""
        for when in ("before", "after"):
            rank = self.column(f"label_rank_{when}")
            for k in (1, 5):
                right_n = self.per_image(np.where(np.isfinite(rank), rank <= k, np.nan))
                self.mean(f"top{k}_{when}", right_n)

    def consistency(self) -> None:
        """How alike the masks of an image's trials are: mean over pairs of trials."""
        iou_n, r_n = np.full(self.n, np.nan), np.full(self.n, np.nan)
        if len(self.rows) > self.n:
            masks = [np.asarray(mask, dtype=np.float32) for mask in self.rows["mask"].to_pylist()]
            for i in range(self.n):
                mine = [masks[j] for j in np.flatnonzero(self.image == i)]
                iou_n[i], r_n[i] = alike(np.stack(mine), side=224)
        self.alike = {"iou": iou_n, "pearson": r_n}
        for name, values_n in self.alike.items():
            self.summary[f"n_{name}"] = int(np.isfinite(values_n).sum())
            self.mean(name, values_n)

    def compare(self, base: "_Statistics") -> None:
        """How much more alike than base's the trials' masks are, on the images of both."""
        place = {p: i for i, p in enumerate(base.places)}
        for name in self.alike:
            theirs_n = np.full(self.n, np.nan)
            for i, p in enumerate(self.places):
                theirs_n[i] = base.alike[name][place[p]] if p in place else np.nan
            above_n = self.alike[name] - theirs_n
            self.summary[f"n_{name}_above_base"] = int(np.isfinite(above_n).sum())
            self.mean(f"{name}_above_base", above_n)
        self.resample()

    def fractions(self) -> Band:
        values = np.array(self.rows["fractions"].to_pylist(), dtype=float)
        values_nG = np.stack([self.per_image(column) for column in values.T], 1)
        low_G, high_G = intervals(values_nG, **self.bootstrap)
        return Band(mean_G=values_nG.mean(0), low_G=low_G, high_G=high_G)

    def mean(self, name: str, values_n: np.ndarray, there_n: np.ndarray | None = None) -> None:
        """Over the images that are `there_n`."""
        self.ratio(name, values_n, np.ones(self.n), there_n)

    def ratio(
        self, name: str, over_n: np.ndarray, under_n: np.ndarray, there_n: np.ndarray | None = None
    ) -> None:
        """Ratio of sums over the images that are `there_n`; NaN where there are none."""
        there_n = np.isfinite(over_n) if there_n is None else there_n
        self.ratios[name] = np.where(there_n, over_n, 0.0), np.where(there_n, under_n, 0.0)

    def median(self, name: str, values_n: np.ndarray) -> None:
        self.medians[name] = values_n

    def resample(self) -> None:
        """Say what was asked for since, each with its interval, from one set of resamples."""
        over_nS = np.stack([over_n for over_n, _ in self.ratios.values()], 1)
        under_nS = np.stack([under_n for _, under_n in self.ratios.values()], 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found_S = over_nS.sum(0) / under_nS.sum(0)
            drawn = []
            for weights_Rn in bootstrap_weights(
                self.n, self.bootstrap["resamples"], self.bootstrap["seed"]
            ):
                ratios_RS = (weights_Rn @ over_nS) / (weights_Rn @ under_nS)
                medians = [_medians(values_n, weights_Rn) for values_n in self.medians.values()]
                drawn.append(np.column_stack([ratios_RS, *medians]))
        found = [*found_S, *(np.nanmedian(values_n) for values_n in self.medians.values())]
        names = [*self.ratios, *self.medians]
        for name, value, drawn_R in zip(names, found, np.concatenate(drawn).T, strict=True):
            self.say(name, float(value), drawn_R[np.isfinite(drawn_R)])
        self.ratios, self.medians = {}, {}

    def say(self, name: str, value: float, drawn_R: np.ndarray) -> None:
        tail = (1 - self.bootstrap["confidence"]) / 2
        bounds = np.quantile(drawn_R, [tail, 1 - tail]) if len(drawn_R) else (np.nan, np.nan)
        self.summary[name] = value
        self.summary[f"{name}_low"], self.summary[f"{name}_high"] = map(float, bounds)


def _medians(values_n: np.ndarray, weights_Rn: np.ndarray) -> np.ndarray:
    order = values_n.argsort()  # NaN last
    reached_Rn = weights_Rn[:, order].cumsum(1) >= 0.5 - 1e-9
    return values_n[order][reached_Rn.argmax(1)]


def recovered(before_n: np.ndarray, after_n: np.ndarray) -> np.ndarray:
    """phi of each image, in percent; NaN where there was no residual."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(before_n > 0, 100 * (before_n - after_n) / before_n, np.nan)


def alike(masks_Tc: np.ndarray, *, side: int) -> tuple[float, float]:
    """Mean over pairs of masks of the IoU of {1 - M' > 0.6} and of the correlation of M', enlarged
    to side x side; NaN where no pair has undesirable pixels, or where masks are constant."""
    cells = round(masks_Tc.shape[1] ** 0.5)
    masks_Tcc = torch.from_numpy(masks_Tc).view(-1, cells, cells)
    blurred_TP = 1 - Undesirable().enlarge(masks_Tcc, (side, side)).flatten(1).double()
    ious, rs = [], []
    for i in range(len(masks_Tc)):
        for j in range(i):
            a, b = blurred_TP[i] > THRESHOLD, blurred_TP[j] > THRESHOLD
            if bool((a | b).any()):
                ious.append(float((a & b).sum() / (a | b).sum()))
            pair = blurred_TP[[i, j]]
            if float(pair.std(1).min()) > 1e-6:
                rs.append(float(pair.corrcoef()[0, 1]))
    return (float(np.mean(ious)) if ious else np.nan, float(np.mean(rs)) if rs else np.nan)
