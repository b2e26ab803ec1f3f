"""The gallery: photographs found again as models saw them, and what is drawn over them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import UsageError
from pipeline.components import component
from pipeline.data import SampleRef
from pipeline.data.images import decode
from pipeline.models import transform
from pipeline.players import View as Seen
from pipeline.players.png import unpacked
from pipeline.report import Exhibit, Name, View, coded
from pipeline.rows import RunDir

Record = dict[str, Any]
"""A row; `title` and `model` are those of its group's name."""
CLASSES = {"predicted": "prediction", "target": "target", "label": "label"}
"""What a view says of classes, by the column that holds it."""


class Photographs:
    """Images of a data set as one model saw them, found again through what the rows' files say.

    `made`: provenance by fingerprint, whose classes are ours or of `plugins`. `view`, `pixels_HWC`,
    in 0..1, and `maps`, regions by name, are those of the image last read; `trouble` says why
    there are none.
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
        self.view = Seen(image_CHW, self.preprocessing, sample)
        self.pixels_HWC = self.view.pixels_HWC / 255
        self.maps = dict[str, str]()

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
            view = Seen(view.image_CHW, self.preprocessing, sample)
        return players(view).numpy()

    def map_of(self, regions_HW: np.ndarray) -> str:
        """The name under which the page keeps these regions, once."""
        name = hashlib.sha256(regions_HW.astype("<i8").tobytes()).hexdigest()[:12]
        if name not in self.maps:
            self.maps[name] = coded.regions(regions_HW)
        return name

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

    def classes(self, record: Record) -> dict[str, str]:
        """Names of the prediction, the class explained and the label, as far as they are known."""
        known = {word: record[column] for word, column in CLASSES.items()}
        return {word: self.class_name(i) for word, i in known.items() if i is not None}

    def _part(self, node: Mapping[str, Any]) -> Any:
        """A component that provenance names, built once."""
        text = json.dumps(node, sort_keys=True)
        if text not in self._parts:
            self._parts[text] = component(node, allowed=self._plugins)
        return self._parts[text]


Draw = Callable[[list[Record], Photographs], Iterable[Mapping[str, Any]]]


class Gallery:
    """A run's photographs, opened once for each data set and way to prepare it."""

    def __init__(self, run: RunDir, names: Mapping[str, Name], plugins: Sequence[str]):
        self._run, self._names, self._plugins = run, names, plugins
        self._made = {p: entry for entry in run.metadata() for p in entry["fingerprints"].values()}
        self._opened: dict[str, Photographs] = {}

    def exhibits(self, images: Iterable[Sequence[Record]], draw: Draw) -> Iterator[Exhibit]:
        """Images, by their rows, with what `draw` makes of these."""
        for rows in images:
            yield self.exhibit(rows, draw)

    def _named(self, row: Record) -> Record:
        name = self._names[row["fingerprint"]]
        return row | {"title": name.title, "model": name.model}

    def exhibit(self, rows: Sequence[Record], draw: Draw) -> Exhibit:
        """What models see differently, or explain for different classes, is shown apart."""
        records = [self._named(row) for row in rows]
        good = [r for r in records if r["status"] == "ok"]
        errors = sorted({f"{r['title']}: {r['error']}" for r in records if r["status"] != "ok"})
        shown, maps = list[View](), dict[str, str]()
        views: dict[Any, list[Record]] = {}
        for record in good or records[:1]:
            view = (self._place(record), record["model"], record["prediction"], record["target"])
            views.setdefault(view, []).append(record)
        for (place, model, *_), mine in views.items():
            photographs = self._open(place, mine[0])
            try:
                photographs.read(mine[0]["shard"], mine[0]["key"])
            except (ValueError, OSError) as error:
                errors.append(f"photograph not shown: {error}")
                continue
            items = list[Mapping[str, Any]]()
            try:
                items += draw([r for r in mine if r["status"] == "ok"], photographs)
            except UsageError:
                raise
            except (ValueError, OSError) as error:
                errors.append(f"not drawn: {error}")
            maps |= photographs.maps
            shown.append(
                View(
                    model=model,
                    photo=coded.photograph(photographs.pixels_HWC),
                    classes=photographs.classes(mine[0]),
                    mistaken=mine[0]["target"] != mine[0]["prediction"],
                    items=items,
                )
            )
        where = {name: records[0][name] for name in ("dataset", "shard", "key")}
        return Exhibit(**where, views=shown, errors=errors, regions=maps)

    def _place(self, record: Record) -> str:
        made = self._made[record["fingerprint"]]
        return json.dumps([made["config"]["dataset"], made["preprocessing"]], sort_keys=True)

    def _open(self, place: str, record: Record) -> Photographs:
        if place not in self._opened:
            self._opened[place] = Photographs(record["fingerprint"], self._made, self._plugins)
        return self._opened[place]
