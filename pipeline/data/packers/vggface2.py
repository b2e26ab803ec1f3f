"""VGGFace2 (Cao et al., FG 2018): 3.3 million faces of 9,131 people, 500 of them for testing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import UsageError
from pipeline.data.packers import Entry, key_of
from pipeline.data.packers.files import folder, images_below, located, subfolders
from pipeline.data.packers.lines import Keyed, box, choice, keyed, number, whole


@dataclass(frozen=True, kw_only=True)
class VggFace2:
    """`<root>/<split>/n000001/0001_01.jpg` and identity_meta.csv, in `root` or in its folder meta.

    People for training come first, sorted by id, 0 to 8,630 as recognisers of 8,631 people have
    them; people for testing follow. `boxes`: CSV files, relative to `root`, of lines
    `n000001/0001_01,x,y,width,height`, such as bb_landmark/loose_bb_test.csv.
    """

    root: str
    splits: list[str] = field(default_factory=lambda: ["train", "test"])
    boxes: list[str] = field(default_factory=list)

    def entries(self) -> Iterator[Entry]:
        """Split after split, person after person. Raises UsageError for what is wrong."""
        root = folder(self.root)
        people = self._people(root)
        index = {person: label for label, person in enumerate(_in_order(people))}
        boxes = [self._boxes(root / path) for path in self.boxes]
        for split in self.splits:
            for of_person in subfolders(folder(root / split, "source.splits")):
                name, _, _, gender = people.of(of_person.name, str(of_person))
                for image in images_below(of_person):
                    key = key_of(f"{of_person.name}/{image}")
                    found = next((b.rows[key].values for b in boxes if key in b.rows), None)
                    yield Entry.of_file(
                        of_person / image,
                        key,
                        label=index[of_person.name],
                        split=split,
                        boxes=() if found is None else (box(*found),),
                        identity=of_person.name,
                        attributes={"name": name.replace("_", " "), "gender": gender},
                    )

    def class_names(self) -> list[str]:
        """Names of the people."""
        people = self._people(folder(self.root))
        return [people.rows[person].values[0].replace("_", " ") for person in _in_order(people)]

    def _people(self, root: Path) -> Keyed:
        path = located(root, "identity_meta.csv", "meta")
        expected = "<id>, <name>, <number of images>, <1 train, 0 test>, <m or f>"
        kinds = (str, whole, choice("0", "1"), choice("m", "f"))
        return keyed(path, kinds, expected, skip=1, comma=True)

    def _boxes(self, path: Path) -> Keyed:
        if not path.exists():
            raise UsageError(f"source.boxes: {path} does not exist; give [] for none")
        expected = "<id>/<image>,<x>,<y>,<width>,<height>"
        return keyed(path, (number,) * 4, expected, skip=1, comma=True)


def _in_order(people: Keyed) -> list[str]:
    """Ids of those for training, then of the others."""
    return sorted(people.rows, key=lambda person: (people.rows[person].values[2] == "0", person))
