"""Mean curves as the report draws them: every quantity and subset, seeds as one line."""

from collections.abc import Iterator

import numpy as np

from pipeline.game import OBJECTIVES
from pipeline.report import Curve
from pipeline.studies.curves.statistics import Aggregate
from pipeline.studies.curves.summaries import Group
from pipeline.studies.names import HEADS

QUANTITIES = ("probability", "top1", "log_odds")


def curves(found: Aggregate) -> list[Curve]:
    """Of each group that has images, and has a curve of them; insertion first."""
    pooled = {fingerprint for seeds in found.pools for fingerprint in seeds}
    alone = [g for g in found.groups if g.summary["fingerprint"] not in pooled]
    together = [group for pool in found.pools.values() for group in pool]
    drawn = [curve for group in [*alone, *together] for curve in _curves(group)]
    return sorted(drawn, key=lambda curve: OBJECTIVES.index(curve.objective))


def _curves(group: Group) -> Iterator[Curve]:
    summary = group.summary
    n = {summary["subset"]: summary["n"], **group.counts}
    more = group.subsets if len(group.subsets) > 1 else {}  # else all are right, or none is
    shown = {summary["subset"]: group.curves, **more}
    labels = {c: str(summary[c]) for c in HEADS if summary.get(c) is not None}
    for subset, bands in shown.items():
        for quantity in QUANTITIES:
            band = bands.get(quantity)
            if n[subset] and band is not None and not np.isnan(band.mean_G).any():
                yield Curve(
                    name=group.name,
                    labels=labels | {"model": group.name.model},
                    objective=summary["objective"],
                    quantity=quantity,
                    subset=subset,
                    n=n[subset],
                    x_G=group.fraction_G,
                    band=band,
                )
