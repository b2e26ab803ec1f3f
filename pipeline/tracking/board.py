"""TensorBoard: a folder of event files, <out>/tensorboard/<job>-<id>."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils import tensorboard

from pipeline.rows import Storage
from pipeline.statistics import completed
from pipeline.studies import Findings
from pipeline.tracking import described


class Board:
    """Scalars, texts and pictures under an id of ours; the same again replaces what is there."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        job: str,
        id: str,
        config: Mapping[str, Any],
    ):
        folder = Path(Storage(settings["out"]).path("tensorboard", f"{job}-{id}"))
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = tensorboard.SummaryWriter(str(folder))
        flat = sorted(described.flat(config))
        self._writer.add_text("config", _markdown(["setting", "value"], flat))

    def progress(self, told: Mapping[str, Any]) -> None:
        """What progress.json says, by whole seconds."""
        for name in ("done", "in_flight", "share", "forwards_per_s", "failed_rows"):
            self._writer.add_scalar(f"run/{name}", told[name], round(told["seconds"]))

    def numbers(self, numbers: Mapping[str, Any]) -> None:
        """Those that are numbers; words as text."""
        for name, value in numbers.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value)
            else:
                self._writer.add_text(name, str(value))

    def artifact(self, name: str, kind: str, paths: Sequence[str], uses: Sequence[str]) -> None:
        """Where it lies."""
        self._writer.add_text(f"files/{kind}", "\n\n".join(paths))

    def findings(self, found: Findings, samples: int) -> None:
        """Curves over per cent of their axis, the table, so many photographs, numbers."""
        for chart in found.charts:
            for title, band in chart.lines.items():
                sides = {"": band.mean_G, "/low": band.low_G, "/high": band.high_G}
                for side, values_G in sides.items():
                    name = f"{chart.name}/{chart.quantity}/{title}{side}"
                    for x, y in zip(chart.x_G, values_G, strict=True):
                        self._writer.add_scalar(name, float(y), round(100 * float(x)))
        rows = completed(found.summary)
        table = _markdown(list(rows[0]), [list(row.values()) for row in rows])
        self._writer.add_text(found.name, table)
        for i, row in enumerate(found.samples(samples)):
            for name, value in row.items():
                if isinstance(value, np.ndarray):
                    self._writer.add_image(f"{row['key']}/{name}", value, i, dataformats="HWC")
        self.numbers(found.numbers)

    def alert(self, title: str, text: str, level: str) -> None:
        """TensorBoard sends nothing; it is a text."""
        self._writer.add_text(f"alert/{level}", f"**{title}**\n\n{text}")

    def close(self, *, failed: bool = False) -> None:
        """Write what is left."""
        self._writer.add_text("state", "failed" if failed else "finished")
        self._writer.close()


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(_text, line)) + " |" for line in lines)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.replace("|", "\\|")
