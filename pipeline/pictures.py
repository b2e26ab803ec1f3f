"""What reports are made of: photographs found again, tiles, numbers and plots as text."""

import base64
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from PIL import Image

from pipeline import UsageError, config
from pipeline.data.images import decode
from pipeline.models import transform
from pipeline.players import Players
from pipeline.results import Run


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of the gallery, as a data URI, with its caption."""

    picture: str
    title: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One image: the photograph and a tile for each method and objective, or why there are none."""

    key: str
    said: str
    photograph: str | None
    tiles: list[Tile]
    errors: list[str]


class Photographs:
    """Images of a data set as the model saw them, found again through what the rows' files say.

    `provenance` says how the rows that are read were made, `made` the same of every fingerprint.
    `image_CHW`, normalised, and `pixels_HWC`, in 0..1, are those of the image last read.
    """

    def __init__(self, provenance: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]]):
        self.made = made
        self._players: dict[str, Players] = {}
        self._refs: dict[tuple[str, str], Any] = {}
        self._error: str | None = None
        self._names = None
        preprocessing = provenance["preprocessing"]
        self.transform = transform(preprocessing)
        self.mean, self.std = (np.array(preprocessing[k]) for k in ("mean", "std"))
        self.data = config.dataset(provenance["config"])
        try:
            self._refs = {(ref.shard, ref.key): ref for ref in self.data.index()}
            self._names = self.data.names()
        except (UsageError, OSError) as error:
            self._error = str(error)

    def read(self, shard: str, key: str) -> None:
        """Find an image; ValueError says why that fails."""
        if self._error:
            raise ValueError(self._error)
        sample = self.data.read(self._refs[shard, key])
        self.image_CHW = self.transform(decode(sample.encoded, exif=self.data.exif))
        pixels_HWC = self.image_CHW.permute(1, 2, 0).numpy() * self.std + self.mean
        self.pixels_HWC = pixels_HWC.clip(0, 1)

    def players(self, row: Mapping[str, Any]) -> Players:
        """The players object that the rows were made with."""
        made = row["fingerprint"]
        if made not in self._players:
            self._players[made] = config.component(self.made[made]["config"]["players"])
        return self._players[made]

    def class_name(self, index: int) -> str:
        """Name and index of a class."""
        if self._names is None or index >= len(self._names):
            return f"class {index}"
        return f"{self._names[index]} ({index})"


def n_images(rows: pa.Table) -> int:
    """Images that rows are about."""
    return len(set(zip(rows["shard"].to_pylist(), rows["key"].to_pylist(), strict=True)))


def exhibits(
    run: Run,
    rows: pa.Table,
    limit: int,
    draw: Callable[[list[dict[str, Any]], Photographs], Iterable[Tile]],
) -> Iterable[Exhibit]:
    """The first images of a run's rows, with the pictures that `draw` makes of them."""
    made = {p: m for m in run.metadata() for p in m["fingerprints"].values()}
    pairs = dict.fromkeys(zip(rows["shard"].to_pylist(), rows["key"].to_pylist(), strict=True))
    readers: dict[str, Photographs] = {}
    for shard, key in sorted(pairs)[:limit]:
        chosen = pc.and_(pc.equal(rows["shard"], shard), pc.equal(rows["key"], key))
        records = rows.filter(chosen).to_pylist()
        provenance = made[records[0]["fingerprint"]]
        name = json.dumps([records[0]["dataset"], provenance["preprocessing"]])
        if name not in readers:
            readers[name] = Photographs(provenance, made)
        yield _exhibit(records, readers[name], draw)


def _exhibit(
    records: list[dict[str, Any]],
    photographs: Photographs,
    draw: Callable[[list[dict[str, Any]], Photographs], Iterable[Tile]],
) -> Exhibit:
    good = [r for r in records if r["status"] == "ok"]
    first = (good or records)[0]
    errors = sorted({f"{r['method']}: {r['error']}" for r in records if r["status"] != "ok"})
    try:
        photographs.read(first["shard"], first["key"])
    except (ValueError, OSError, KeyError) as error:
        reason = f"photograph not shown: {error}"
        return Exhibit(
            key=first["key"], said="", photograph=None, tiles=[], errors=[*errors, reason]
        )
    said = ""
    if first["prediction"] is not None:
        names = photographs.class_name
        said = f"predicted {names(first['prediction'])}"
        said += "" if first["target"] is None else f", explained {names(first['target'])}"
        said += "" if first["label"] is None else f", label {names(first['label'])}"
    picture = data_uri(Image.fromarray((photographs.pixels_HWC * 255).astype(np.uint8)))
    tiles = list(draw(good, photographs))
    return Exhibit(key=first["key"], said=said, photograph=picture, tiles=tiles, errors=errors)


def data_uri(image: Image.Image) -> str:
    """A picture that a page can hold."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def svg(figure: Figure, salt: str) -> str:
    """Inline SVG, the same for the same figure; `salt` tells its ids from other figures'."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def interval(summary: Mapping[str, Any], name: str, form: str = ".3f") -> str:
    """Mean and bounds, or a dash."""
    if math.isnan(summary[name]):
        return "-"
    low, high = (format(summary[f"{name}_{side}"], form) for side in ("low", "high"))
    return f"{summary[name]:{form}} [{low}, {high}]"


def number(value: float, form: str) -> str:
    """A number, or a dash for NaN."""
    return "-" if math.isnan(value) else format(value, form)


def ruled(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table as text."""
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(heads))]
    lines = [heads, ["-" * w for w in widths], *cells]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in lines
    )
