"""Undesirable pixels as a study: what everything else takes of them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from pipeline.rows import RunDir
from pipeline.studies import Chart, Findings, Score, Study
from pipeline.studies.masks.rows import MASKS, THRESHOLDS
from pipeline.studies.masks.section import section, table
from pipeline.studies.masks.statistics import aggregate

TRACKED = ("phi", "phi_ratio", "undesirable")


def findings(run: RunDir, settings: Mapping[str, Any]) -> Findings:
    """phi and the share of undesirable pixels of every method."""
    found = aggregate(run, settings)
    good = [group for group in found.groups if group.summary["n"]]
    shares = Chart(
        name="undesirable",
        quantity="fractions",
        axis="threshold",
        x_G=np.array(THRESHOLDS),
        lines={group.name.title: group.fractions for group in good},
    )
    return Findings(
        run=run,
        name="undesirable",
        summary=[group.summary for group in found.groups],
        table=table(found).text(),
        tables={"undesirable": table(found)},
        section=partial(section, run, found, settings),
        charts=[shares] if good else [],
        numbers={
            f"{group.name.title}/{column}{side}": group.summary[column + side]
            for group in good
            for column in TRACKED
            for side in ("", "_low", "_high")
        },
        scores=[
            Score(
                fingerprint=group.summary["fingerprint"],
                name="phi",
                value=group.summary["phi"],
                n=group.summary["n"],
                larger=True,
            )
            for group in good
        ],
        aims={f"{group.name.title}/phi": "max" for group in good},
    )


STUDY = Study(kind=MASKS, aggregate=findings)
