"""ImageNet, ILSVRC2012: 1,000 classes, 1.28 million training and 50,000 validation images.

A class index is the place of the class's WordNet id among all 1,000, sorted, as released models
have it. ILSVRC's own ids, 1 to 1,000, are in another order; meta.mat says which id is which class.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import UsageError
from pipeline.data.packers import Box, Entry, key_of
from pipeline.data.packers.files import folder, images_below, subfolders
from pipeline.data.packers.lines import lines, malformed, number

_WNID = re.compile(r"n[0-9]{8}")
Truth = Mapping[str, tuple[str, tuple[Box, ...], str]]
"""By the name of an image, without extension: its WordNet id, boxes, and the line that says so."""


@dataclass(frozen=True, kw_only=True)
class ImageNet:
    """`val` and `train`, folders below `root`, either None to leave it out.

    Both hold a folder a class (`n01440764`); `val` may hold the images themselves, as they are
    distributed, and then `truth`, a file below `root`, says their classes: LOC_val_solution.csv
    (whose boxes are taken too), lines of WordNet ids in the order of the images, or
    ILSVRC2012_validation_ground_truth.txt, with `synsets` for its ids: meta.mat, or a text file of
    1,000 WordNet ids in the order of ILSVRC's. `classes`: a file of lines `<WordNet id> <name>`
    by class index (LOC_synset_mapping.txt) for other than the 1,000 classes.
    """

    root: str
    val: str | None = "val"
    train: str | None = None
    truth: str | None = None
    synsets: str | None = None
    classes: str | None = None

    def __post_init__(self):
        if self.val is None and self.train is None:
            raise UsageError("source.val and source.train are null: name the folder of one")

    def entries(self) -> Iterator[Entry]:
        """The training images, then those for validation. Raises UsageError for what is wrong."""
        root = folder(self.root)
        if self.train is not None:
            yield from self._in_folders(folder(root / self.train, "source.train"), "train", {})
        if self.val is None:
            return
        val = folder(root / self.val, "source.val")
        truth = self._truth(root)
        if subfolders(val):
            yield from self._in_folders(val, "validation", truth)
        else:
            yield from self._flat(val, truth)

    def class_names(self) -> list[str]:
        """The first name of each class."""
        return [name for _, name in self._known]

    def _in_folders(self, place: Path, split: str, truth: Truth) -> Iterator[Entry]:
        for of_class in subfolders(place):
            label = self._label(of_class.name, str(of_class))
            for name in images_below(of_class):
                wnid, boxes, line = truth.get(Path(name).stem, (of_class.name, (), ""))
                if wnid != of_class.name:
                    raise UsageError(f"{line}: {name} is {wnid} there, but lies in {of_class}")
                yield Entry.of_file(
                    of_class / name,
                    key_of(f"{of_class.name}/{name}"),
                    label=label,
                    split=split,
                    boxes=boxes,
                    details={"synset": wnid},
                )

    def _flat(self, place: Path, truth: Truth) -> Iterator[Entry]:
        if not truth:
            raise UsageError(
                f"source.truth: {place} has no folders of classes; name the file that says "
                "them, such as ILSVRC2012_validation_ground_truth.txt or LOC_val_solution.csv"
            )
        for name in images_below(place):
            if Path(name).stem not in truth:
                raise UsageError(f"source.truth={self.truth}: no line for {place / name}")
            wnid, boxes, line = truth[Path(name).stem]
            label = self._label(wnid, line)
            details = {"synset": wnid}
            yield Entry.of_file(
                *(place / name, key_of(name)),
                **{"label": label, "split": "validation", "boxes": boxes, "details": details},
            )

    def _label(self, wnid: str, where: str) -> int:
        if wnid not in self._index:
            raise UsageError(
                f"{where}: {wnid} is none of the {len(self._index)} classes; source.classes names "
                "a file of others"
            )
        return self._index[wnid]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {wnid: label for label, (wnid, _) in enumerate(self._known)}

    @cached_property
    def _known(self) -> list[tuple[str, str]]:
        """WordNet ids and names by class index."""
        if self.classes is None:
            from timm.data import ImageNetInfo

            info = ImageNetInfo()
            names = info.label_descriptions()
            wnids = info.label_names()
        else:
            path = folder(self.root) / self.classes
            wnids, names = [], []
            for at, line in lines(path):
                wnid, _, name = line.strip().partition(" ")
                if not _WNID.fullmatch(wnid) or wnid in wnids:
                    raise malformed(path, at, line, "<WordNet id> <name>, each id once")
                wnids.append(wnid)
                names.append(name.strip() or wnid)
        return [(w, name.split(",")[0]) for w, name in zip(wnids, names, strict=True)]

    def _truth(self, root: Path) -> Truth:
        if self.truth is None:
            return {}
        path = root / self.truth
        if path.suffix.lower() == ".csv":
            return _solution(path)
        found: dict[str, tuple[str, tuple[Box, ...], str]] = {}
        order = None
        for at, line in lines(path):
            said = line.strip()
            if said.isascii() and said.isdigit():
                order = order or _synsets(root, self.synsets)
                if not 1 <= int(said) <= len(order):
                    raise malformed(path, at, line, f"an ILSVRC2012 id from 1 to {len(order)}")
                said = order[int(said) - 1]
            if not _WNID.fullmatch(said):
                raise malformed(path, at, line, "an ILSVRC2012 id or a WordNet id alone")
            found[f"ILSVRC2012_val_{len(found) + 1:08}"] = (said, (), f"{path}:{at}")
        return found


def _solution(path: Path) -> Truth:
    """Kaggle's LOC_val_solution.csv: `<image>,<WordNet id> <left> <top> <right> <bottom> ...`."""
    found: dict[str, tuple[str, tuple[Box, ...], str]] = {}
    expected = "<image>,<WordNet id> <left> <top> <right> <bottom>, the last five once a box"
    for at, line in lines(path):
        if at == 1:
            continue
        fields = next(csv.reader([line]))
        words = fields[1].split() if len(fields) == 2 else []
        try:
            groups = [words[i : i + 5] for i in range(0, len(words), 5)]
            boxes = tuple((number(a), number(b), number(c), number(d)) for _, a, b, c, d in groups)
        except ValueError:
            raise malformed(path, at, line, expected) from None
        if not groups or len({group[0] for group in groups}) > 1 or not _WNID.match(words[0]):
            raise malformed(path, at, line, expected)
        found[fields[0]] = (words[0], boxes, f"{path}:{at}")
    return found


def _synsets(root: Path, name: str | None) -> list[str]:
    """WordNet ids in the order of ILSVRC's own ids."""
    if name is None:
        raise UsageError(
            "source.synsets is not set: source.truth holds ILSVRC's own ids, whose order is not "
            "that of class indices; give source.synsets=<meta.mat of the development kit>"
        )
    path = root / name
    if path.suffix == ".mat":
        return _of_mat(path)
    found = []
    for at, line in lines(path):
        wnid = line.split()[0]
        if not _WNID.fullmatch(wnid):
            raise malformed(path, at, line, "a WordNet id, n and eight digits")
        found.append(wnid)
    return found


def _of_mat(path: Path) -> list[str]:
    """Of the development kit's meta.mat, whose leaves are the classes."""
    from scipy.io import loadmat

    try:
        table: Any = loadmat(path, squeeze_me=True)["synsets"]
        leaves = {
            int(row["ILSVRC2012_ID"]): str(row["WNID"])
            for row in table
            if int(row["num_children"]) == 0
        }
    except FileNotFoundError:
        raise UsageError(f"source.synsets: {path} does not exist") from None
    except Exception as error:  # the parser raises errors of every kind
        raise UsageError(f"source.synsets: {path} is no meta.mat of ILSVRC2012: {error}") from None
    return [leaves[place] for place in sorted(leaves)]
