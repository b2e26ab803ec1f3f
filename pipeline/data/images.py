"""Encoded bytes to an RGB image, whatever the file's mode; a damaged or huge file raises."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels; also what all threads together decode at a time. A
pixel takes up to 15 bytes on its way to RGB, so 1.5 GB a process."""
SHORT_SIDE = 512
"""Pixels that a model's resize may give to the short side: no image may pass MOST_PIXELS by it."""
Image.init()
FORMATS = tuple(
    name
    for name in "JPEG MPO PNG WEBP BMP DIB TIFF PPM GIF JPEG2000 AVIF".split()
    if name in Image.OPEN
)
"""What is decoded, whatever the extension says: formats of pixels, none that runs a program."""

# Pillow's own warning comes below MOST_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Budget:
    """A number of pixels that threads share: each waits, in turn, until its share is free."""

    def __init__(self, pixels: int):
        self.free = pixels
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Hold `pixels`, at most all there are, while the block runs."""
        with self._turn, self._changed:  # one waits, the rest behind it: large ones do not starve
            self._changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self.free += pixels
                self._changed.notify_all()


_budget = Budget(MOST_PIXELS)


def check_size(width: int, height: int) -> None:
    """Raise ValueError for an image that cannot be decoded and resized within MOST_PIXELS."""
    if width < 1 or height < 1:
        raise ValueError(f"image of {width} x {height} has no pixels")
    if width * height > MOST_PIXELS:
        raise ValueError(f"image of {width} x {height} exceeds {MOST_PIXELS:,} pixels")
    short, long = sorted((width, height))
    if SHORT_SIDE**2 * long > MOST_PIXELS * short:
        raise ValueError(
            f"image of {width} x {height} is too long and narrow: with a short side of "
            f"{SHORT_SIDE} it would exceed {MOST_PIXELS:,} pixels"
        )


def size(encoded: bytes, *, exif: bool = False) -> tuple[int, int]:
    """Height and width of the image that `decode` would give, from its header."""
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        width, height = image.size
        try:
            turned = exif and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        except Exception:  # as in `_turned`
            turned = False
    return (width, height) if turned else (height, width)


def decode(encoded: bytes, *, exif: bool = False) -> Image.Image:
    """RGB image. Grey, palette, CMYK and 16-bit files are converted, alpha is laid on white.

    Raises ValueError that says why for anything that is no complete image, or none that fits
    `check_size`. Waits while other threads decode MOST_PIXELS.
    """
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"not an image: starts with {encoded[:16]!r}") from None
    except Exception as error:  # damaged files make the decoders raise errors of every kind
        raise ValueError(f"image cannot be decoded: {error}") from None
    check_size(*image.size)
    with _budget.of(image.width * image.height):
        try:
            image.load()
            return _rgb(_turned(image) if exif else image)
        except Exception as error:
            raise ValueError(f"image cannot be decoded: {error}") from None


def _turned(image: Image.Image) -> Image.Image:
    """As the EXIF tag says; as it is where the tag cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the parser raises errors of every kind
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bit: scale, since convert() would clip at 255
        return Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
