"""A folder of images without labels."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.data.packers import Entry, key_of
from pipeline.data.packers.files import folder, images_below


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Every image file below `root`, however deep."""

    root: str

    def entries(self) -> Iterator[Entry]:
        """Sorted, folder after folder. Raises UsageError where `root` is none."""
        root = folder(self.root)
        for name in images_below(root):
            yield Entry.of_file(root / name, key_of(name))

    def class_names(self) -> list[str]:
        """None."""
        return []
