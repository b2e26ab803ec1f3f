"""CelebA (Liu et al., ICCV 2015): 202,599 faces of 10,177 people, 40 attributes each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import UsageError
from pipeline.data.packers import Entry, key_of
from pipeline.data.packers.files import folder, located
from pipeline.data.packers.lines import Keyed, box, choice, keyed, lines, malformed, number, whole

SPLITS = ("train", "validation", "test")
"""What 0, 1 and 2 of list_eval_partition.txt stand for."""
PEOPLE = 10_177
_FOLDERS = ("Img", "Anno", "Eval")


@dataclass(frozen=True, kw_only=True)
class CelebA:
    """The files as they are distributed, in `root` or in its folders Img, Anno and Eval.

    `target`: identity, whose class index is the person's number less one, or the name of an
    attribute, class 1 where it is there. `images`: the folder of the image files. `boxes`:
    list_bbox_celeba.txt, whose boxes are of the unaligned images (img_celeba), or None.
    """

    root: str
    target: str = "identity"
    images: str = "img_align_celeba"
    boxes: str | None = None

    def __post_init__(self):
        if self.boxes is not None and "align" in self.images:
            raise UsageError(
                f"source.boxes={self.boxes}: these boxes are of the unaligned images; give "
                "source.images=img_celeba, or source.boxes=null"
            )

    def entries(self) -> Iterator[Entry]:
        """In the order of list_eval_partition.txt. Raises UsageError for what is wrong."""
        root = folder(self.root)
        images = folder(located(root, self.images, *_FOLDERS))
        expected = "<image> <0, 1 or 2>"
        path = located(root, "list_eval_partition.txt", *_FOLDERS)
        splits = keyed(path, (choice("0", "1", "2"),), expected)
        path = located(root, "identity_CelebA.txt", *_FOLDERS)
        people = keyed(path, (whole,), "<image> <number of the person>")
        attributes = _listed(located(root, "list_attr_celeba.txt", *_FOLDERS), "-1 or 1", _sign)
        boxes = self.boxes and _listed(located(root, self.boxes, *_FOLDERS), "a number", number)
        if self.target not in ("identity", *attributes.names):
            known = ", ".join(attributes.names)
            raise UsageError(f"source.target={self.target}: use identity or one of {known}")
        for name, row in splits.rows.items():
            origin = f"{splits.path}:{row.number}"
            (person,) = people.of(name, origin)
            if not 1 <= person <= PEOPLE:
                raise people.refused(name, f"a person's number from 1 to {PEOPLE}")
            signs = attributes.of(name, origin)
            yield Entry.of_file(
                images / name,
                key_of(name),
                label=person - 1 if self.target == "identity" else int(signs[self.target] == 1),
                split=SPLITS[int(row.values[0])],
                boxes=(box(*boxes.of(name, origin).values()),) if boxes else (),
                identity=str(person),
                attributes=signs,
                origin=origin,
            )

    def class_names(self) -> list[str]:
        """Numbers of the people, or without and with the attribute."""
        if self.target == "identity":
            return [str(person) for person in range(1, PEOPLE + 1)]
        said = self.target.replace("_", " ")
        return [f"not {said}", said]


@dataclass(frozen=True)
class _Listed:
    """A file with a line for the number of images, one for the names of columns, one an image."""

    names: list[str]
    rows: Keyed

    def of(self, name: str, asked: str) -> dict:
        return dict(zip(self.names, self.rows.of(name, asked), strict=True))


def _listed(path: Path, each: str, kind) -> _Listed:
    head = [line for _, line in zip(range(2), lines(path), strict=False)]
    if len(head) < 2:
        raise UsageError(f"{path}: expected the number of images, names of columns and a line each")
    (number_of_count, count), (_, header) = head
    names = [name for name in header.split() if name != "image_id"]
    expected = f"<image> and {each} for each of the {len(names)} columns of line 2"
    rows = keyed(path, (kind,) * len(names), expected, skip=2)
    if count.strip() != str(len(rows.rows)):
        raise malformed(
            path, number_of_count, count, f"the number of images, {len(rows.rows)} lines follow"
        )
    return _Listed(names, rows)


def _sign(text: str) -> int:
    return int(choice("-1", "1")(text))
