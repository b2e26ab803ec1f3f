"""The gallery: photographs found again as models saw them, and tiles drawn over them."""

import base64
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from pipeline import UsageError
from pipeline.components import component
from pipeline.data import SampleRef
from pipeline.data.images import decode
from pipeline.models import transform
from pipeline.players import View
from pipeline.players.png import unpacked
from pipeline.report import Name
from pipeline.rows import RunDir

Record = dict[str, Any]
"""A row; `title` and `model` are those of its group's name."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of the gallery, as a data URI, with its caption."""

    picture: str
    title: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One image: the photograph, a tile for each of its rows, and what went wrong."""

    key: str
    tiles: list[Tile]
    errors: list[str]


class Photographs:
    """Images of a data set as one model saw them, found again through what the rows' files say.

    `made`: provenance by fingerprint, whose classes are ours or of `plugins`. `view` and
    `pixels_HWC`, in 0..1, are those of the image last read; `trouble` says why there are none.
    """

    def __init__(
        self, fingerprint: str, made: Mapping[str, Mapping[str, Any]], plugins: Sequence[str]
    ):
        self._made, self._plugins, self._parts = made, plugins, dict[str, Any]()
        self._refs: dict[tuple[str, str], SampleRef] = {}
        self.trouble: str | None = None
        self._names: list[str] | None = None
        self.preprocessing = made[fingerprint]["preprocessing"]
        self.transform = transform(self.preprocessing)
        self.data = self._part(made[fingerprint]["config"]["dataset"])
        try:
            self._refs = {(ref.shard, ref.key): ref for ref in self.data.index()}
            self._names = self.data.names()
        except (UsageError, OSError) as error:
            self.trouble = str(error)

    def ref(self, shard: str, key: str) -> SampleRef | None:
        """Where an image lies, None where it is not there."""
        return self._refs.get((shard, key))

    def read(self, shard: str, key: str, members: Sequence[str] = ()) -> None:
        """Find an image, with such members beside it; ValueError or OSError says why that fails."""
        if self.trouble:
            raise ValueError(self.trouble)
        if (shard, key) not in self._refs:
            raise ValueError(f"{shard} holds no {key}")
        self._ref = self._refs[shard, key]
        sample = self.data.read(self._ref, members)
        image_CHW = self.transform(decode(sample.encoded, exif=self.data.exif))
        self.view = View(image_CHW, self.preprocessing, sample)
        self.pixels_HWC = self.view.pixels_HWC / 255

    def regions(self, record: Record) -> np.ndarray:
        """Which player each pixel belongs to, (H, W), as the rows' games were cut.

        Raises ValueError for players cut by a model's heat of which the row keeps no regions.
        """
        if record.get("regions") is not None:
            return unpacked(record["regions"]).numpy()
        players = self._part(self._made[record["fingerprint"]]["config"]["players"])
        if getattr(players, "prior", None) is not None:
            raise ValueError("its players were cut by heat, which is not kept")
        view, members = self.view, getattr(players, "members", ())
        if members:
            sample = self.data.read(self._ref, members)
            view = View(view.image_CHW, self.preprocessing, sample)
        return players(view).numpy()

    def method(self, record: Record) -> Any:
        """The method that made the row, which a later run may have called otherwise."""
        mine, made = record["fingerprint"], self._made[record["fingerprint"]]
        name = next(name for name, other in made["fingerprints"].items() if other == mine)
        return self._part(made["config"]["methods"][name])

    def class_name(self, index: int) -> str:
        """Name and index of a class."""
        if self._names is None or index >= len(self._names):
            return f"class {index}"
        return f"{self._names[index]} ({index})"

    def said(self, record: Record) -> str:
        """Prediction, class explained and label, as far as they are known."""
        words = {"predicted": "prediction", "explained": "target", "label": "label"}
        known = [(word, record[c]) for word, c in words.items() if record[c] is not None]
        return ", ".join(f"{word} {self.class_name(index)}" for word, index in known)

    def _part(self, node: Mapping[str, Any]) -> Any:
        """A component that provenance names, built once."""
        text = json.dumps(node, sort_keys=True)
        if text not in self._parts:
            self._parts[text] = component(node, allowed=self._plugins)
        return self._parts[text]


Draw = Callable[[list[Record], Photographs], Iterable[Tile]]


class Gallery:
    """A run's photographs, opened once for each data set and way to prepare it."""

    def __init__(self, run: RunDir, names: Mapping[str, Name], plugins: Sequence[str]):
        self._names, self._plugins = names, plugins
        self._made = {p: entry for entry in run.metadata() for p in entry["fingerprints"].values()}
        self._opened: dict[str, Photographs] = {}

    def exhibits(self, rows: pa.Table, limit: int, draw: Draw) -> Iterable[Exhibit]:
        """The first images of the rows, with the pictures that `draw` makes of them."""
        columns = ["dataset", "shard", "key"]
        places = rows.select(columns).group_by(columns).aggregate([]).to_pylist()
        for place in sorted(places, key=lambda place: tuple(place.values()))[:limit]:
            mine = rows
            for column, value in place.items():
                mine = mine.filter(pc.equal(mine[column], value))
            yield self._exhibit([self._named(row) for row in mine.to_pylist()], draw)

    def _named(self, row: Record) -> Record:
        name = self._names[row["fingerprint"]]
        return row | {"title": name.title, "model": name.model}

    def _exhibit(self, records: list[Record], draw: Draw) -> Exhibit:
        """What models see differently, or explain for different classes, is shown apart."""
        good = [r for r in records if r["status"] == "ok"]
        tiles = []
        errors = sorted({f"{r['title']}: {r['error']}" for r in records if r["status"] != "ok"})
        views: dict[Any, list[Record]] = {}
        for record in good or records[:1]:
            view = (self._place(record), record["model"], record["prediction"], record["target"])
            views.setdefault(view, []).append(record)
        several = len({view[:2] for view in views}) > 1
        for (place, model, *_), mine in views.items():
            photographs = self._open(place, mine[0])
            try:
                photographs.read(mine[0]["shard"], mine[0]["key"])
            except (ValueError, OSError) as error:
                errors.append(f"photograph not shown: {error}")
                continue
            title = f"as {model} sees it" if several else "as the model sees it"
            picture = data_uri(photographs.pixels_HWC)
            tiles.append(Tile(picture=picture, title=title, caption=photographs.said(mine[0])))
            try:
                tiles += draw([r for r in mine if r["status"] == "ok"], photographs)
            except UsageError:
                raise
            except (ValueError, OSError) as error:
                errors.append(f"not drawn: {error}")
        return Exhibit(key=records[0]["key"], tiles=tiles, errors=errors)

    def _place(self, record: Record) -> str:
        made = self._made[record["fingerprint"]]
        return json.dumps([made["config"]["dataset"], made["preprocessing"]], sort_keys=True)

    def _open(self, place: str, record: Record) -> Photographs:
        if place not in self._opened:
            self._opened[place] = Photographs(record["fingerprint"], self._made, self._plugins)
        return self._opened[place]


def data_uri(pixels_HWC: np.ndarray) -> str:
    """A picture (H, W, 3) in 0..1 that a page can hold."""
    buffer = io.BytesIO()
    picture = Image.fromarray((pixels_HWC * 255).clip(0, 255).astype(np.uint8))
    picture.save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
