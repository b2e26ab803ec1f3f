"""CUB-200-2011 (Wah et al., 2011): 11,788 birds of 200 species, each with the box of the bird."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.packers import Entry, key_of
from pipeline.data.packers.files import folder
from pipeline.data.packers.lines import Keyed, box, choice, keyed, number, whole


@dataclass(frozen=True, kw_only=True)
class Cub:
    """The folder CUB_200_2011 as it is distributed.

    Labels are class ids less one, 0 to 199; splits are train and test; a box is the one of
    bounding_boxes.txt, x, y, width and height, as corners.
    """

    root: str

    def entries(self) -> Iterator[Entry]:
        """In the order of images.txt. Raises UsageError for a file or line that is wrong."""
        root = folder(self.root)
        images = keyed(root / "images.txt", (str,), "<image id> <path below images>")
        labels = keyed(root / "image_class_labels.txt", (whole,), "<image id> <class id>")
        expected = "<image id> <1 where it is for training, else 0>"
        splits = keyed(root / "train_test_split.txt", (choice("0", "1"),), expected)
        expected = "<image id> <x> <y> <width> <height>"
        boxes = keyed(root / "bounding_boxes.txt", (number,) * 4, expected)
        classes = len(self._classes(root).rows)
        for image, row in images.rows.items():
            (path,) = row.values
            origin = f"{images.path}:{row.number}"
            (label,) = labels.of(image, origin)
            if not 1 <= label <= classes:
                raise labels.refused(image, f"a class id from 1 to {classes}, as classes.txt has")
            yield Entry.of_file(
                root / "images" / path,
                key_of(path),
                label=label - 1,
                split="train" if splits.of(image, origin) == ("1",) else "test",
                boxes=(box(*boxes.of(image, origin)),),
                origin=origin,
            )

    def class_names(self) -> list[str]:
        """Of classes.txt, `001.Black_footed_Albatross` as `Black footed Albatross`."""
        rows = self._classes(folder(self.root)).rows.values()
        return [row.values[0].partition(".")[2].replace("_", " ") for row in rows]

    def _classes(self, root: Path) -> Keyed:
        found = keyed(root / "classes.txt", (str,), "<class id> <number>.<name>")
        for place, class_id in enumerate(found.rows, 1):
            if class_id != str(place):
                raise found.refused(class_id, f"class id {place}: ids count up from 1")
        return found
