"""Two photographs side by side: ground truth for explanations of a class that is not predicted.

Each pair of the demo photographs gives two samples, one for either class as the label; the JSON
says in which half the label's photograph lies.
"""

import io
from collections.abc import Iterator
from itertools import combinations

from PIL import Image, ImageOps

from pipeline.data.images import decode
from pipeline.data.packers import demo

SIDE = 224


def samples() -> Iterator[dict]:
    """Sample dicts of SIDE x SIDE composites, each half a centre crop of one photograph."""
    photographs = [
        (s["__key__"], next(v for v in s.values() if isinstance(v, bytes)), s["cls"])
        for s in demo.samples()
    ]
    for (name_a, left, class_a), (name_b, right, class_b) in combinations(photographs, 2):
        composite = Image.new("RGB", (SIDE, SIDE))
        for encoded, x in ((left, 0), (right, SIDE // 2)):
            half = ImageOps.fit(decode(encoded), (SIDE // 2, SIDE), Image.Resampling.BICUBIC)
            composite.paste(half, (x, 0))
        buffer = io.BytesIO()
        composite.save(buffer, "PNG")
        for half, label in (("left", class_a), ("right", class_b)):
            yield {
                "__key__": f"{name_a}+{name_b}-{half}",
                "png": buffer.getvalue(),
                "cls": label,
                "json": {"half": half, "label": label},
            }
