"""Methods against each other, image by image: differences, standings, agreement of judges."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from pipeline import UsageError
from pipeline.components import suggestion
from pipeline.statistics import agreement, attributes
from pipeline.statistics.clusters import estimate
from pipeline.statistics.paired import holm, paired
from pipeline.statistics.predicted import predicted
from pipeline.statistics.scan import Scan
from pipeline.statistics.standings import Standings, profile, standings
from pipeline.studies.curves.cells import ALIKE, Cell, Judged, cells

Row = dict[str, Any]
THRESHOLDS = 41
LEAST = 3
"""Images from which two methods are compared."""


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """Rows of <out>/<name>.parquet by name; docs/statistics.md explains their columns."""

    comparisons: list[Row] = field(default_factory=list)
    standings: list[Row] = field(default_factory=list)
    ranks: list[Row] = field(default_factory=list)
    profiles: list[Row] = field(default_factory=list)
    agreement: list[Row] = field(default_factory=list)
    two_phase: list[Row] = field(default_factory=list)
    by_attribute: list[Row] = field(default_factory=list)


def comparisons(
    scan: Scan,
    judged: Judged,
    provenance: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> Comparisons:
    """Within every cell. Raises UsageError for a method that no cell has."""
    every = cells(scan, judged, provenance, settings["plugins"])
    for name in ("against", "cheap", "exact"):
        _check(name, settings[name], every)
    found = Comparisons()
    for cell in every:
        said = dict(cell.labels) | {"subset": settings["subset"], "quantity": settings["quantity"]}
        some_n = cell.whole_n
        stand = None
        if some_n.any():
            stand = standings(
                cell.sign * cell.value_nM[some_n],
                cell.unit_n[some_n],
                resamples=settings["resamples"],
                seed=settings["seed"],
            )
            _stand(found, said, cell, stand)
        for reference, best in _references(cell, stand, settings["against"]):
            found.comparisons.extend(_versus(said, cell, stand, reference, settings, best=best))
        found.profiles.extend(_profiles(said, cell))
        found.two_phase.extend(_two_phase(said, cell, settings))
    found.agreement.extend(_agreement(every))
    if settings["by"] is not None:
        told = attributes.values(scan, settings["by"], "by", settings["plugins"])
        found.by_attribute.extend(
            _by_attribute(scan, judged, told, settings["by"], settings["confidence"])
        )
    return found


def _check(setting: str, method: str | None, every: Sequence[Cell]) -> None:
    if method is None or any(cell.place(method) is not None for cell in every):
        return
    known = [m.label for cell in every for m in cell.members]
    raise UsageError(f"{setting}={method}: no such method; {suggestion(method, known)}")


def _references(
    cell: Cell, stand: Standings | None, against: str | None
) -> Iterator[tuple[int, bool]]:
    """The best method, which the images choose, and the one that is asked for."""
    if len(cell.members) < 2:
        return
    if stand is not None:
        yield int(stand.mean_M.argmax()), True
    if against is not None and (place := cell.place(against)) is not None:
        yield place, False


def _versus(
    said: Row,
    cell: Cell,
    stand: Standings | None,
    reference: int,
    settings: Mapping[str, Any],
    *,
    best: bool,
) -> list[Row]:
    """Each method against the reference. Where that is the best of M, which the images have chosen,
    Holm corrects for all M (M - 1) / 2 pairs that it may have been of."""
    members, rows = cell.members, []
    for i, member in enumerate(members):
        difference_n = cell.value_nM[:, i] - cell.value_nM[:, reference]
        both_n = np.isfinite(difference_n)
        if i == reference or both_n.sum() < LEAST:
            continue
        found = paired(
            difference_n[both_n], cell.cluster_n[both_n], confidence=settings["confidence"]
        )
        better = {} if stand is None else _chances(stand, i, reference, settings["margin"])
        rows.append(
            said
            | {
                "method": member.name.title,
                "label": member.label,
                "fingerprint": member.fingerprints[0],
                "seeds": len(member.fingerprints),
                "against": members[reference].name.title,
                "against_fingerprint": members[reference].fingerprints[0],
                "chosen": best,
                "own_masking": member.own,
                "against_own_masking": members[reference].own,
                "more_is_better": cell.sign > 0,
                "n": found.mean.n,
                "clusters": found.mean.clusters,
                "design_effect": found.mean.design_effect,
                "difference": found.mean.mean,
                "difference_low": found.mean.low,
                "difference_high": found.mean.high,
                "better": found.above if cell.sign > 0 else found.below,
                "worse": found.below if cell.sign > 0 else found.above,
                "equal": found.equal,
                "improvement": _signed(cell.sign, found.improvement.mean),
                "p": found.p,
                "rank_biserial": found.rank_biserial,
                "cohens_dz": found.cohens_dz,
                **better,
                "detectable": found.detectable,
                "more_images": found.more,
            }
        )
    m = len(members)
    pairs = m * (m - 1) // 2 if best else len(rows)
    for row, p in zip(rows, holm([row["p"] for row in rows], pairs), strict=True):
        row["p_holm"] = float(p)
    return rows


def _signed(sign: int, share: float) -> float:
    return share if sign > 0 else 1 - share


def _chances(stand: Standings, one: int, other: int, margin: float) -> Row:
    return {
        "probability_better": stand.better(one, other),
        "margin": margin,
        "probability_better_by_margin": stand.better(one, other, margin),
        "probability_worse_by_margin": stand.better(other, one, margin),
    }


def _stand(found: Comparisons, said: Row, cell: Cell, stand: Standings) -> None:
    ranks_MP, best_M = stand.ranks_MP, stand.best_M
    for i, member in enumerate(cell.members):
        spread = ranks_MP[i].cumsum()
        named = said | {"method": member.name.title, "label": member.label}
        found.standings.append(
            named
            | {
                "fingerprint": member.fingerprints[0],
                "seeds": len(member.fingerprints),
                "own_masking": member.own,
                "more_is_better": cell.sign > 0,
                "n": int(cell.whole_n.sum()),
                "mean": float(cell.sign * stand.mean_M[i]),
                "probability_best": float(best_M[i]),
                "rank": float(ranks_MP[i] @ np.arange(1, len(ranks_MP) + 1)),
                "rank_low": int(np.searchsorted(spread, 0.025)) + 1,
                "rank_high": int(min(np.searchsorted(spread, 0.975), len(spread) - 1)) + 1,
                "seeds_sd": cell.seeds_sd[i],
            }
        )
        for place, probability in enumerate(ranks_MP[i].tolist()):
            found.ranks.append(named | {"rank": place + 1, "probability": probability})


def _profiles(said: Row, cell: Cell) -> Iterator[Row]:
    finite = cell.value_nM[np.isfinite(cell.value_nM)]
    if not len(finite):
        return
    at_T = np.linspace(finite.min(), finite.max(), THRESHOLDS)
    for i, member in enumerate(cell.members):
        value_n = cell.value_nM[:, i]
        share_T = profile(value_n[np.isfinite(value_n)], at_T)
        for threshold, share in zip(at_T.tolist(), share_T.tolist(), strict=True):
            named = said | {"method": member.name.title, "label": member.label}
            yield named | {"threshold": threshold, "share_above": share}


def _two_phase(said: Row, cell: Cell, settings: Mapping[str, Any]) -> Iterator[Row]:
    """What `exact` would say of all images on which `cheap` ran; less `against`, where given."""
    cheap, exact = (cell.place(settings[name] or "") for name in ("cheap", "exact"))
    if cheap is None or exact is None:
        return
    reference = cell.place(settings["against"] or "")
    less_n = 0.0 if reference is None else cell.value_nM[:, reference]
    exact_n, cheap_n = (cell.value_nM[:, i] - less_n for i in (exact, cheap))
    known_n = np.isfinite(cheap_n)
    both_n = known_n & np.isfinite(exact_n)
    if both_n.sum() < LEAST:
        return
    found = predicted(
        exact_n[both_n],
        cheap_n[both_n],
        cheap_n[known_n & ~both_n],
        confidence=settings["confidence"],
    )
    yield said | {
        "exact": cell.members[exact].name.title,
        "cheap": cell.members[cheap].name.title,
        "against": None if reference is None else cell.members[reference].name.title,
        **vars(found),
    }


def _agreement(every: Sequence[Cell]) -> Iterator[Row]:
    """Of images within a cell; of cells that differ in how they judge."""
    families: dict[tuple[Any, ...], list[Cell]] = {}
    shared = [c for c in ALIKE if c not in ("curve_masking", "judge", "measure")]
    for cell in every:
        families.setdefault(tuple(cell.labels[c] for c in shared), []).append(cell)
        rank_nM = agreement.ranks(cell.sign * cell.value_nM[cell.whole_n])
        yield {
            **{c: cell.labels[c] for c in shared},
            "of": "images",
            "one": _judging(cell),
            "other": None,
            "methods": len(cell.members),
            "n": len(rank_nM),
            "tau": None,
            "alpha": agreement.alpha(rank_nM) if len(cell.members) > 1 else float("nan"),
        }
    for labels, judgings in families.items():
        for one, other in combinations(judgings, 2):
            yield dict(zip(shared, labels, strict=True)) | _between(one, other)


def _between(one: Cell, other: Cell) -> Row:
    """Tau of the rankings of methods that both judge, by their means over the images that both saw,
    and alpha of the ranks that methods have on these images."""
    labels = [m.label for m in one.members if m.label in [o.label for o in other.members]]
    images = np.intersect1d(one.image_n[one.whole_n], other.image_n[other.whole_n])
    found = []
    for cell in (one, other):
        columns = [[m.label for m in cell.members].index(label) for label in labels]
        rows = np.searchsorted(cell.image_n, images)
        found.append(cell.sign * cell.value_nM[rows][:, columns])
    there = len(labels) > 1 and len(images) > 0
    return {
        "of": "judgings",
        "one": _judging(one),
        "other": _judging(other),
        "methods": len(labels),
        "n": len(images),
        "tau": agreement.kendall(*(v.mean(0) for v in found)) if there else float("nan"),
        "alpha": agreement.alpha(np.stack([agreement.ranks(v).ravel() for v in found]))
        if there
        else float("nan"),
    }


def _judging(cell: Cell) -> str:
    return ", ".join(str(cell.labels[c]) for c in ("curve_masking", "judge", "measure"))


def _by_attribute(
    scan: Scan, judged: Judged, found: Sequence[Any], attribute: str, confidence: float
) -> Iterator[Row]:
    """Mean of each group by the value of an attribute, with its interval; `found`: the value of
    each row."""
    value_N = np.array([None if v is None else str(v) for v in found], dtype=object)
    for i, key in enumerate(judged.keys):
        mine_N = (judged.group_N == i) & scan.ok_N & np.isfinite(judged.value_N)
        for value in sorted({v for v in value_N[mine_N] if v is not None}):
            some_N = mine_N & (value_N == value)
            told = estimate(judged.value_N[some_N], judged.cluster_N[some_N], confidence=confidence)
            yield dict(key) | {
                "title": judged.names[key["fingerprint"]].title,
                "attribute": attribute,
                "is": value,
                "n": told.n,
                "value": told.mean,
                "value_low": told.low,
                "value_high": told.high,
            }
