"""Encoded bytes to an RGB image, whatever the file's mode; a damaged file raises."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


def decode(encoded: bytes, *, exif: bool = False) -> Image.Image:
    """RGB image. Grey, palette, CMYK and 16-bit files are converted, alpha is laid on white.

    Raises ValueError that says why for anything that is no complete image.
    """
    try:
        image = Image.open(io.BytesIO(encoded))
        image.load()
    except UnidentifiedImageError:
        raise ValueError(f"not an image: starts with {encoded[:16]!r}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"image cannot be decoded: {error}") from None
    if exif:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bit: scale, since convert() would clip at 255
        return Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
