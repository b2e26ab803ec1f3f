"""A checkpoint's rows held against the baseline's, and everything written down that follows."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pipeline import UsageError
from pipeline.compare.agreement import agreements
from pipeline.compare.drift import drift, worst
from pipeline.compare.files import save
from pipeline.compare.matching import Pairs, matched
from pipeline.compare.page import section as changes
from pipeline.reevaluation import baselines, history
from pipeline.reevaluation.baselines import Baseline
from pipeline.reevaluation.mass import with_mass
from pipeline.reevaluation.night import Night
from pipeline.reevaluation.quantities import quantities
from pipeline.reevaluation.section import section
from pipeline.reevaluation.verdicts import Rule, decide
from pipeline.report import page
from pipeline.report.gallery import Draw
from pipeline.rows import Kind, RunDir

NAMED = 10
"""Images that changed most, by name."""
NAMES = ("now", "baseline")


def judged(
    settings: Mapping[str, Any],
    base: Baseline,
    prints: Mapping[str, str],
    kind: Kind,
    draw: Draw,
) -> tuple[Night, bool]:
    """Compare `settings["out"]`, its rows of the fingerprints `prints` by method, with a baseline;
    decide; write files, history and page. Returns also whether the night is a new one."""
    runs = (RunDir(settings["out"], kind), RunDir(base.run, kind))
    mine, theirs = ({"fingerprint": list(one.values())} for one in (prints, base.fingerprints))
    pairs = matched(*runs, across=["model", "order_model"], where=(mine, theirs))
    rows, notes = _drift(settings, pairs)
    rule = Rule(**{k: settings[k] for k in ("confidence", "resamples", "seed", "power")})
    images = sorted(set(zip(*(rows[c].to_pylist() for c in ("shard", "key")), strict=True)))
    night = Night(
        baseline=base,
        checkpoint=baselines.baseline(runs[0], mine, "checkpoint"),
        verdicts=[decide(one, rule) for one in quantities(rows, settings["tolerance"])],
        images=len(images),
        strict=settings["strict"],
        changed=["/".join(place) for place, _ in worst(rows, NAMED)],
        notes=[*pairs.notes(NAMES), *notes],
    )
    address = {
        "sides": [mine, theirs],
        "images": images,
        "tolerance": settings["tolerance"],
        "rule": vars(rule),
    }
    now = datetime.now(UTC).isoformat(timespec="seconds")
    nights, new = history.keep(settings["history"], history.record(address, night.record(), now))
    bounds = {name: settings[name] for name in ("resamples", "seed", "confidence")}
    found = agreements(rows, **bounds)
    save(runs[0], rows, found)
    night.save(runs[0])
    shown = changes(
        runs,
        rows,
        found,
        names=NAMES,
        draw=draw,
        gallery=settings["gallery"],
        plugins=settings["plugins"],
    )
    page.write(
        runs[0],
        [section(night, nights), shown],
        confidence=settings["confidence"],
        title=f"Is it as good as {base.name}?",
        name="reevaluation",
    )
    return night, new


def last(run: RunDir) -> dict[str, Any]:
    """Which rows of a directory of re-evaluations are those of the checkpoint that came last; none
    in particular of other directories. Raises UsageError for a damaged verdict."""
    path = run.path("verdict.json")
    if not run.fs.exists(path):
        return {}
    content: Any = run.fs.cat_file(path)
    try:
        return {"fingerprint": list(json.loads(content)["checkpoint"]["fingerprints"].values())}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no verdict ({error}); give +where.model=<name>") from None


def _drift(settings: Mapping[str, Any], pairs: Pairs) -> tuple[pa.Table, list[str]]:
    """Drift, with the mass in boxes where that is asked for."""
    rows, boxes = drift(pairs, settings["top"]), settings["boxes"]
    if boxes["field"] is None or settings["tolerance"]["moved"] is None:
        return rows, []
    runs = (pairs.sides[0].run, pairs.sides[1].run)
    return with_mass(rows, runs, **boxes, plugins=settings["plugins"])
