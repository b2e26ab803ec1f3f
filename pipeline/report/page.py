"""The page: what it is about, the verdict, then images, mistakes, failures and provenance.

It stands alone: photographs and numbers lie in it, those of the first INLINE images. Further ones
lie in chunks beside it, scripts that are loaded when somebody asks, so that a page opened from disk
finds them too.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup

from pipeline.report import Curve, Exhibit, Section, View, bundle, figures
from pipeline.report.failed import failures
from pipeline.report.provenance import provenance
from pipeline.report.text import rendered
from pipeline.rows import Storage

INLINE = 200
"""Images within the page."""
CHUNK = 50
"""Images of a further file."""


def write(
    run: Storage,
    sections: Sequence[Section],
    *,
    confidence: float,
    notes: Sequence[str] = (),
    title: str = "Which pixels carry the decision?",
    name: str = "index",
) -> str:
    """Write <out>/report/<name>.html, `notes` on top; returns its place."""
    exhibits = (exhibit for section in sections for exhibit in section.exhibits)
    index: list[dict[str, Any]] = []
    inline = _chunk(islice(exhibits, INLINE), index, 0)
    number = 0
    while more := list(islice(exhibits, CHUNK)):
        number += 1
        text = f"pixelQuorum.chunk({number}, {_json(_chunk(more, index, number))});\n"
        run.write(run.path("report", "images", f"{number}.js"), text.encode())
    uplot, uplot_style = bundle.uplot()
    runs = [section.run for section in sections if section.run is not None]
    data = {
        "curves": [_curve(curve) for section in sections for curve in section.curves],
        "index": index,
        "colours": figures.COLOURS,
        "heat": _lookup(figures.HEAT),
        "signed": _lookup(figures.SIGNED),
        "confidence": 100 * confidence,
    }
    html = rendered(
        Path(__file__).with_name("page.html"),
        title=title,
        out=run.out,
        models=list(dict.fromkeys(name for section in sections for name in section.models)),
        datasets=list(dict.fromkeys(name for section in sections for name in section.datasets)),
        confidence=f"{100 * confidence:g}",
        notes=notes,
        sections=[section.html for section in sections],
        mistakes=sum(image["mistaken"] for image in index),
        images=len(index),
        whole=bool(runs),
        failures=[reason for one in runs for reason in failures(one)],
        errors=[(image["id"], error) for image in index for error in image["errors"]],
        provenance=provenance(run, runs),
        style=Markup(bundle.style() + uplot_style),
        uplot=Markup(uplot),
        script=Markup(bundle.script()),
        data=_json(data),
        inline=[(i, _json(image)) for i, image in enumerate(inline["images"])],
        regions=_json(inline["regions"]),
    )
    path = run.path("report", f"{name}.html")
    run.write(path, html.encode())
    return path if run.is_local else f"{run.out.rstrip('/')}/report/{name}.html"


def _chunk(exhibits: Iterable[Exhibit], index: list[dict[str, Any]], number: int) -> dict[str, Any]:
    """What the page holds of some images: photographs and items, maps of players once each. What it
    holds of all images, for lists and filters, is added to `index`."""
    images, regions = list[dict[str, Any]](), dict[str, str]()
    for exhibit in exhibits:
        regions |= exhibit.regions
        index.append(_entry(exhibit, number, len(images)))
        images.append({"views": [vars(view) for view in exhibit.views], "errors": exhibit.errors})
    return {"images": images, "regions": regions}


def _entry(exhibit: Exhibit, chunk: int, place: int) -> dict[str, Any]:
    view = exhibit.views[0] if exhibit.views else None
    classes = view.classes if view else {}
    label = classes.get("label")
    items = [item for view in exhibit.views for item in view.items]
    return {
        **{"id": f"{exhibit.dataset}/{exhibit.shard}/{exhibit.key}", "key": exhibit.key},
        **{"chunk": chunk, "place": place, "errors": exhibit.errors},
        "target": classes.get("target", ""),
        "predicted": classes.get("predicted", ""),
        "right": None if label is None else label == classes.get("predicted"),
        "mistaken": any(view.mistaken for view in exhibit.views),
        "cured": any((item.get("region") or {}).get("cured") for item in items),
        "areas": list(_areas(exhibit.views)),
        "titles": list(dict.fromkeys(item["title"] for item in items)),
    }


def _areas(views: Sequence[View]) -> Iterator[tuple[str, str, float]]:
    """Title, objective and area of each item that has one."""
    for item in (item for view in views for item in view.items):
        if item["area"] is not None:
            yield item["title"], item["objective"], round(item["area"], 4)


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        **{"title": curve.name.title, "method": curve.name.method, "variant": curve.name.variant},
        **{"labels": dict(curve.labels), "objective": curve.objective, "n": curve.n},
        **{"quantity": curve.quantity, "subset": curve.subset, "x": _rounded(curve.x_G)},
        **{side: _rounded(getattr(curve.band, f"{side}_G")) for side in ("mean", "low", "high")},
    }


def _rounded(values_G: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values_G]


def _lookup(name: str) -> str:
    """A colour map as 256 RGB bytes."""
    colours = matplotlib.colormaps[name](np.arange(256))[:, :3]
    return base64.b64encode((colours * 255).round().astype(np.uint8).tobytes()).decode()


def _json(value: Mapping[str, Any]) -> Markup:
    """For a script element: nothing in it ends that element or begins a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))
