"""One reader a source layout: an annotated collection of image files as entries, none of them read.

Attribution of a label, a split or a box to an image is a reader's, tars are `pipeline.packing`'s.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, Self

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the file itself, from its upper left corner."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One image and what is known of it.

    `image`: the path of its file, or its encoded bytes; `extension`: in lower case, no dot.
    `label`: class index, None where there is none; `split`: empty where there are none.
    `identity`: whom or what it shows; `attributes`: by name; `details`: other fields of the json.
    `origin`: what names the image, `file:line`.
    """

    key: str
    image: str | bytes
    extension: str
    label: int | None = None
    split: str = ""
    boxes: tuple[Box, ...] = ()
    identity: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    @classmethod
    def of_file(cls, path: Path, key: str, **known: Any) -> Self:
        """The entry of a file; `key` is its path below the images' folder, as `key_of` makes it."""
        return cls(key=key, image=str(path), extension=path.suffix[1:].lower(), **known)


class Reader(Protocol):
    """A source layout. Readers are frozen keyword-only dataclasses, see conf/source."""

    def entries(self) -> Iterator[Entry]:
        """Every image, in an order that depends on the files alone.

        Raises UsageError that names file, line and what was expected for malformed annotations.
        """
        ...

    def class_names(self) -> list[str]:
        """Names by class index, empty where images have no classes."""
        ...


def key_of(path: str | PurePosixPath) -> str:
    """The key of an image file by its path below the images' folder: without the extension, and
    other dots of its name are underscores, since a WebDataset key ends at the first dot."""
    place = PurePosixPath(path)
    return str(place.with_name(place.stem.replace(".", "_")))
