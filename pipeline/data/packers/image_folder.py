"""Images in folders that are named after their classes, as torchvision's ImageFolder has them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline import UsageError
from pipeline.data.packers import Entry, key_of
from pipeline.data.packers.files import folder, images_below, subfolders


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """`<root>/<class>/...`, or `<root>/<split>/<class>/...` with `splits`.

    A class index is the place of the class's name among all of them, sorted, over all splits.
    """

    root: str
    splits: list[str] = field(default_factory=list)

    def entries(self) -> Iterator[Entry]:
        """Split after split, class after class. Raises UsageError where a folder is missing."""
        index = {name: label for label, name in enumerate(self.class_names())}
        for split, place in self._places:
            for of_class in subfolders(place):
                for name in images_below(of_class):
                    path = of_class / name
                    key = key_of(path.relative_to(folder(self.root)).as_posix())
                    yield Entry.of_file(path, key, label=index[of_class.name], split=split)

    def class_names(self) -> list[str]:
        """Names of the folders."""
        names = sorted(
            {of_class.name for _, place in self._places for of_class in subfolders(place)}
        )
        if not names:
            raise UsageError(
                f"images: {self.root} holds no folders of classes; source=folder takes images "
                "without labels, source.splits names folders of splits"
            )
        return names

    @cached_property
    def _places(self) -> list[tuple[str, Path]]:
        root = folder(self.root)
        if not self.splits:
            return [("", root)]
        return [(split, folder(root / split, "source.splits")) for split in self.splits]
