"""The images that drifted most, side by side: each run's photograph and its orders on it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from pipeline.compare.agreement import Agreement, table
from pipeline.compare.drift import worst
from pipeline.report import Name, Section, coded
from pipeline.report.gallery import Draw, Gallery
from pipeline.report.text import rendered
from pipeline.rows import RunDir, parts

DRAWN = 3
"""Rows of an image that are drawn, the most drifted ones."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A picture, as a data URI, with words."""

    picture: str
    title: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One image: what both runs see, and what went wrong."""

    title: str
    tiles: Sequence[Tile]
    errors: Sequence[str]


def section(
    runs: tuple[RunDir, RunDir],
    drift: pa.Table,
    found: Sequence[Agreement],
    *,
    names: tuple[str, str],
    draw: Draw,
    gallery: int,
    plugins: Sequence[str],
    notes: Sequence[str] = (),
) -> Section:
    """How far two runs agree, and so many images; `names`: what the runs are called; `draw`: makes
    of rows of an image the photograph and then each order over it, as `picture_HWC` with a `title`
    and a `caption`."""
    lines = table(found)
    changed = worst(drift, len(drift))
    html = rendered(
        Path(__file__).with_name("section.html"),
        names=names,
        outs=[run.out for run in runs],
        table_of=lines,
        notes=notes,
        changed=len(changed),
        images=len({(s, k) for s, k in zip(*_places(drift), strict=True)}),
        exhibits=list(exhibits(runs, changed[:gallery], names, draw, plugins)),
    )
    models = dict.fromkeys(str(one.labels[c]) for one in found for c in ("model", "against_model"))
    return Section(
        html=Markup(html),
        models=list(models),
        datasets=list(dict.fromkeys(str(one.labels["dataset"]) for one in found)),
    )


def exhibits(
    runs: tuple[RunDir, RunDir],
    shown: Sequence[tuple[tuple[str, str], list[dict[str, Any]]]],
    names: tuple[str, str],
    draw: Draw,
    plugins: Sequence[str],
) -> Iterator[Compared]:
    """One for each image: what both runs see and predict, then orders in pairs."""
    pictures = [_Pictures(run, plugins, draw) for run in runs]
    for (shard, key), rows in shown:
        tiles: list[Tile] = []
        errors: dict[str, None] = {}
        for n, row in enumerate(rows[:DRAWN]):
            sides = zip(
                pictures[::-1], names[::-1], ("against_fingerprint", "fingerprint"), strict=True
            )
            drawn = [
                _drawn(one, name, (shard, key, row[column], row["objective"]))
                for one, name, column in sides
            ]
            if n == 0:
                tiles += [photograph for photograph, _, _ in drawn if photograph is not None]
            tiles += [order for _, order, _ in drawn if order is not None]
            errors |= dict.fromkeys(error for _, _, found in drawn for error in found)
        yield Compared(title=f"{key}: {_said(rows[0])}", tiles=tiles, errors=list(errors))


class _Pictures:
    """One run's rows as pictures."""

    def __init__(self, run: RunDir, plugins: Sequence[str], draw: Draw):
        self.run, self._draw = run, draw
        self._plugins = plugins
        self._gallery: Gallery | None = None
        self._names: dict[str, Name] = {}

    def tiles(
        self, shard: str, key: str, fingerprint: str, objective: str
    ) -> tuple[list[Tile], Sequence[str]]:
        """The photograph and one order over it, and what went wrong."""
        where = {"shard": shard, "key": key, "fingerprint": fingerprint, "objective": objective}
        fs = self.run.fs
        tables = self.run.look(lambda path: (path, parts.read(fs, path, where=where)))
        rows = parts.fitted(tables, self.run.kind.schema).slice(0, 1)
        (row,) = rows.to_pylist()
        model = row["model"] or "the model"
        self._names[fingerprint] = Name(method=row["method"], variant="", model=model)
        if self._gallery is None:
            self._gallery = Gallery(self.run, self._names, self._plugins)
        found = self._gallery.exhibit([row], self._draw)
        items = [item for view in found.views for item in view.items]
        return [
            Tile(
                picture=coded.photograph(item["picture_HWC"]),
                title=item["title"],
                caption=item["caption"],
            )
            for item in items
        ], found.errors


def _drawn(
    pictures: _Pictures, name: str, place: tuple[str, str, str, str]
) -> tuple[Tile | None, Tile | None, list[str]]:
    """Photograph and order of one side, and what went wrong."""
    tiles, errors = pictures.tiles(*place)
    named = [replace(tile, title=f"{name}: {tile.title}") for tile in tiles]
    return (*[*named, None, None][:2], list(errors))  # type: ignore[return-value]


def _said(row: Mapping[str, Any]) -> str:
    """What has changed most, in a line."""
    said = [f"{row['method']}, {row['objective']}"]
    if row["difference"] is not None:
        said.append(f"{row['measure']} {row['difference']:+.3f}")
    if row["iou"] is not None:
        said.append(f"IoU of flip sets {row['iou']:.2f}")
    if row["flipped"]:
        said.append(f"prediction {row['against_prediction']} is now {row['prediction']}")
    return "; ".join(said)


def _places(drift: pa.Table) -> list[list[str]]:
    return [drift[column].to_pylist() for column in ("shard", "key")]
