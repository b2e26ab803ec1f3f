"""Shards in, samples out: where an image lies inside a WebDataset tar, its bytes and its label."""

from collections.abc import Mapping
from dataclasses import dataclass, field

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "ppm")


class Unreadable(OSError):  # noqa: N818 - what it is, not that it is an error
    """A sample's bytes cannot be had now: the storage fails, which says nothing of the sample."""


@dataclass(frozen=True, kw_only=True)
class SampleRef:
    """One sample of one shard, located but not read: `members` maps extension -> (offset, size)."""

    shard: str
    url: str
    key: str
    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Encoded bytes of one image and its class index (None where the sample has no label).

    `content`: 16 hex digits that change with the bytes of the image, the label or `members`, other
    members that were asked for, by extension; empty for samples that come from no shard. `exif`:
    whether the image is turned as its EXIF tag says.
    """

    shard: str
    key: str
    encoded: bytes
    label: int | None
    content: str = ""
    members: Mapping[str, bytes] = field(default_factory=dict)
    exif: bool = False
