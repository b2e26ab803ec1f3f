"""Draw one image's orders over its photograph, and their curves, as a PNG.

python -m jobs.show out=runs/mine key=n01440764_10026
"""

import io
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipeline import UsageError
from pipeline.config import entry_point
from pipeline.config.limits import at_least, setting
from pipeline.report.gallery import Gallery
from pipeline.report.images import of_key
from pipeline.report.tables import slug
from pipeline.rows import RunDir, Storage
from pipeline.studies.curves.rows import CURVES
from pipeline.studies.curves.shown import figure, pictures
from pipeline.studies.names import names


@dataclass
class ShowConfig:
    """Settings: see conf/show.yaml."""

    out: str = MISSING
    key: str = MISSING
    shard: str | None = None
    only: list[str] = field(default_factory=list)
    file: str | None = None
    dpi: int = setting(130, at_least(20))
    plugins: list[str] = field(default_factory=list)


@entry_point("show", ShowConfig)
def main(settings: dict[str, Any]) -> None:
    """Says where the picture is."""
    run, key = RunDir(settings["out"], CURVES), settings["key"]
    rows = of_key(run, key, settings["shard"])
    asked = settings["only"] or list(dict.fromkeys(row["method"] for row in rows))
    if lacking := sorted(set(asked) - {row["method"] for row in rows}):
        known = ", ".join(sorted({row["method"] for row in rows}))
        raise UsageError(f"only: no row of {key} is of {', '.join(lacking)}; there are {known}")
    mine = [row for row in rows if row["method"] in asked]
    gallery = Gallery(run, names(mine, run.metadata()), settings["plugins"])
    exhibit = gallery.exhibit(mine, pictures)
    if not any(view.items for view in exhibit.views):
        raise UsageError(f"key={key}: nothing to draw: {'; '.join(exhibit.errors)}")
    buffer = io.BytesIO()
    figure(exhibit).savefig(buffer, format="png", dpi=settings["dpi"])
    place = settings["file"] or run.path("shown", f"{slug(key)}.png")
    Storage(settings["out"]).write(place, buffer.getvalue())
    for error in exhibit.errors:
        print(error)
    print(place)


if __name__ == "__main__":
    main()
