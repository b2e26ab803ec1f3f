"""Shards in, samples out: where an image lies inside a WebDataset tar, its bytes and its label."""

from dataclasses import dataclass, field

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "ppm")


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
    """Encoded bytes of one image and its class index (None where the sample has no label)."""

    shard: str
    key: str
    encoded: bytes
    label: int | None
