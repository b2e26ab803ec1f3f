"""Numbers and pictures as short text that a page can hold and its scripts can read."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

LIMIT = 32767
UNIT = 65535


def unit(values: Any) -> str:
    """Numbers in 0..1 as uint16."""
    return _text(np.clip(np.asarray(values, np.float64), 0, 1) * UNIT, "<u2")


def log_odds(values: Any) -> str:
    """Hundredths as int16: to 327 and no further."""
    return _text(np.clip(np.asarray(values, np.float64) * 100, -LIMIT, LIMIT), "<i2")


def whole(values: Sequence[int]) -> str:
    """Whole numbers below 65,536."""
    return _text(np.asarray(values), "<u2")


def shares(values: Any) -> str:
    """Numbers in 0..1 as uint8."""
    return _text(np.clip(np.asarray(values, np.float64), 0, 1) * 255, "u1")


def bits(values: Sequence[bool]) -> str:
    """A digit a value."""
    return "".join("1" if value else "0" for value in values)


def photograph(pixels_HWC: np.ndarray) -> str:
    """A picture (H, W, 3) in 0..1 as a data URI, WebP: some 10 KB at 224 pixels a side."""
    return _uri(Image.fromarray(_bytes(pixels_HWC)), "WEBP", quality=80)


def levels(values_HW: np.ndarray) -> str:
    """A grey picture (H, W) of 0..1 as a data URI, without loss."""
    return _uri(Image.fromarray(_bytes(values_HW)), "PNG", optimize=True)


def regions(regions_HW: np.ndarray) -> str:
    """Players of pixels (H, W) as a data URI: red + 256 green of a PNG."""
    low_HW, high_HW = regions_HW & 255, regions_HW >> 8
    colours_HWC = np.stack([low_HW, high_HW, np.zeros_like(low_HW)], 2).astype(np.uint8)
    return _uri(Image.fromarray(colours_HWC), "PNG", optimize=True)


def _bytes(values: np.ndarray) -> np.ndarray:
    return (values * 255).round().clip(0, 255).astype(np.uint8)


def _text(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.rint(np.nan_to_num(values)).astype(kind).tobytes()).decode()


def _uri(picture: Image.Image, form: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    body = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{body}"
