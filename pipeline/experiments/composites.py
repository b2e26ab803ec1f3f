"""Two photographs side by side: ground truth for explanations of a class that is not predicted.

Each pair of the demo photographs gives two samples, one for either class as the label; the JSON
says in which half the label's photograph lies.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from PIL import Image, ImageOps

from pipeline.data.images import decode
from pipeline.data.packers import Entry
from pipeline.data.packers.demo import Demo

SIDE = 224


@dataclass(frozen=True, kw_only=True)
class Composites:
    """SIDE x SIDE composites, each half a centre crop of one photograph."""

    def entries(self) -> Iterator[Entry]:
        """Pair after pair, either half's class as the label."""
        halves = [(entry, _half(Path(str(entry.image)))) for entry in Demo().entries()]
        for (a, left), (b, right) in combinations(halves, 2):
            composite = Image.new("RGB", (SIDE, SIDE))
            composite.paste(left, (0, 0))
            composite.paste(right, (SIDE // 2, 0))
            buffer = io.BytesIO()
            composite.save(buffer, "PNG")
            for half, label in (("left", a.label), ("right", b.label)):
                yield Entry(
                    key=f"{a.key}+{b.key}-{half}",
                    image=buffer.getvalue(),
                    extension="png",
                    label=label,
                    details={"half": half},
                )

    def class_names(self) -> list[str]:
        """None of their own: dataset.class_names=imagenet knows them."""
        return []


def _half(path: Path) -> Image.Image:
    size = (SIDE // 2, SIDE)
    return ImageOps.fit(decode(path.read_bytes()), size, Image.Resampling.BICUBIC)
