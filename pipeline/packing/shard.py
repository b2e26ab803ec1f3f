"""The bytes of one tar: image, `cls` and `json` of each sample, the same on every machine."""

import hashlib
import io
import tarfile
from pathlib import Path

from pipeline import RunError, UsageError
from pipeline.packing.plan import Planned, ShardPlan


def tar(shard: ShardPlan) -> bytes:
    """A shard as planned. Raises UsageError for an image that cannot be read, RunError for one that
    has changed since."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for one in shard.samples:
            members = {one.entry.extension: _image(one), "cls": one.cls, "json": one.json}
            for extension, content in members.items():
                if content is not None:
                    info = tarfile.TarInfo(f"{one.entry.key}.{extension}")
                    info.size = len(content)  # owner, mode and time stay what they always are
                    file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def digest(content: bytes) -> str:
    """SHA-256, hexadecimal, as sha256sum prints it."""
    return hashlib.sha256(content).hexdigest()


def _image(one: Planned) -> bytes:
    image = one.entry.image
    if isinstance(image, bytes):
        return image
    try:
        content = Path(image).read_bytes()
    except OSError as error:
        raise UsageError(f"{image} cannot be read: {error.strerror}") from None
    if len(content) != one.size:
        raise RunError(f"{image} changes while it is packed; run the same command again")
    return content
