"""Rows to statistics: mean curves and AUCs with bootstrap intervals over images or clusters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report import Name
from pipeline.report.tables import Table
from pipeline.rows import RunDir, parts
from pipeline.statistics import DEFAULTS, LABELS, attributes, draws
from pipeline.statistics.scan import Scan
from pipeline.studies.curves import paper
from pipeline.studies.curves.comparisons import Comparisons, Judged, comparisons
from pipeline.studies.curves.published import beside, published
from pipeline.studies.curves.seeds import pools
from pipeline.studies.curves.summaries import Group, Told
from pipeline.studies.curves.sums import tallied
from pipeline.studies.names import names


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """All groups of a run, in order of labels and objective, and the rows that they stand on;
    `names` by fingerprint; `papers`: tables as papers print them; `pools`: groups of the seeds of
    one control together, by the fingerprints that they hold; `compared`: methods against each
    other."""

    groups: list[Group]
    names: Mapping[str, Name]
    scan: Scan
    papers: list[Table]
    pools: Mapping[tuple[str, ...], list[Group]]
    compared: Comparisons

    @property
    def mistakes(self) -> bool:
        """Whether an image's target is not its prediction."""
        rows = self.scan.rows
        return bool(pc.any(pc.not_equal(rows["target"], rows["prediction"])).as_py())


def aggregate(run: RunDir, settings: Mapping[str, Any]) -> Aggregate:
    """Group the rows of a run and compute each group's statistics.

    Raises UsageError for a run without rows to stand on.
    """
    settings = DEFAULTS | dict(settings)
    scan = Scan.of(run)
    scan = scan.only(attributes.chosen(scan, settings["subset"], settings["plugins"]))
    cluster_N, unit_N = _units(scan, settings)
    keys, group_N = _groups(scan)
    provenance = run.metadata()
    named = names(keys, provenance)
    objectives = {i: key["objective"] for i, key in enumerate(keys)}
    tallies, values_N = tallied(scan, group_N, unit_N, objectives, settings)
    told = Told(scan, group_N, unit_N, settings)
    printed = published(provenance)
    found = []
    for i, key in enumerate(keys):
        summary = told.summary(i, key, named[key["fingerprint"]].title, tallies.get(i))
        summary.update(beside(printed.get(key["fingerprint"], {}), key["objective"]))
        found.append(told.group(summary, named[key["fingerprint"]], [i], tallies))
    seeds = pools(keys, named, provenance)
    pooled = {pool.fingerprints: told.pool(pool, keys, tallies) for pool in seeds}
    judged = Judged(
        keys=keys,
        names=named,
        measures=[group.summary["measure"] for group in found],
        group_N=group_N,
        value_N=values_N,
        cluster_N=cluster_N,
        unit_N=unit_N,
        pools=seeds,
        quantity=settings["quantity"],
    )
    places = [(g.summary["fingerprint"], g.summary["objective"]) for g in found]
    papers = paper.tables(
        {place: g.summary for place, g in zip(places, found, strict=True)},
        {place: (g.fraction_G, g.curves) for place, g in zip(places, found, strict=True)},
        provenance,
    )
    return Aggregate(
        groups=found,
        names=named,
        scan=scan,
        papers=papers,
        pools=pooled,
        compared=comparisons(scan, judged, provenance, settings),
    )


def _units(scan: Scan, settings: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Cluster of each row by a code (its image, unless images are clustered), and its unit."""
    if settings["cluster"] is None:
        images, place_N = np.unique(scan.image_N, return_inverse=True)
        return scan.image_N, draws.units(scan.names(images))[place_N]
    found = attributes.values(scan, settings["cluster"], "cluster", settings["plugins"])
    # an image that belongs to no cluster is one of its own
    code_N = attributes.codes(found)
    cluster_N = np.where(code_N < 0, code_N.max() + 1 + scan.image_N, code_N)
    _, first, place_N = np.unique(cluster_N, return_index=True, return_inverse=True)
    images = scan.names(scan.image_N[first])
    said = [
        (settings["cluster"], found[row]) if found[row] is not None else image
        for row, image in zip(first.tolist(), images, strict=True)
    ]
    return cluster_N, draws.units(said)[place_N]


def _groups(scan: Scan) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Labels, objective and fingerprint of each group, in their order, and each row's group. A
    fingerprint is one group, even where its labels have changed between runs."""
    by = ["objective", "fingerprint"]
    (objectives, place_N), (_, print_N) = (parts.coded(scan.rows[name]) for name in by)
    code_N = print_N * (len(objectives) + 1) + place_N
    _, first, group_N = np.unique(code_N, return_index=True, return_inverse=True)
    keys = scan.rows.select([*LABELS, *by]).take(pa.array(first)).to_pylist()
    order = sorted(range(len(keys)), key=lambda i: tuple(str(v) for v in keys[i].values()))
    return [keys[i] for i in order], np.argsort(order)[group_N]
