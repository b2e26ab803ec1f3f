"""Folders of image files."""

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline import UsageError
from pipeline.data import IMAGE_EXTENSIONS

_SUFFIXES = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)


def folder(path: str | Path, option: str = "images") -> Path:
    """A folder that is there. Raises UsageError that names the option."""
    found = Path(path).expanduser()
    if not found.is_dir():
        raise UsageError(f"{option}: {found} is no folder; docs/datasets.md shows the layout")
    return found


def located(root: Path, name: str, *folders: str) -> Path:
    """A file or folder of a distribution: in `root`, or where it is, in one of its folders."""
    places = [root / name, *(root / below / name for below in folders)]
    return next((place for place in places if place.exists()), places[0])


def subfolders(root: Path) -> list[Path]:
    """Folders directly below, sorted by name; hidden ones are left out."""
    try:
        with os.scandir(root) as found:
            names = [e.name for e in found if e.is_dir() and not e.name.startswith(".")]
    except OSError as error:
        raise UsageError(f"{root} cannot be read: {error.strerror}") from None
    return [root / name for name in sorted(names)]


def images_below(root: Path) -> Iterator[str]:
    """Paths of image files below a folder, relative to it, sorted; hidden ones are left out."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from None

    for place, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        seen = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(name for name in seen if not _leads_back(place, name))
        below = Path(place).relative_to(root)
        for name in sorted(names):
            if name.lower().endswith(_SUFFIXES) and not name.startswith("."):
                yield (below / name).as_posix()


def _leads_back(place: str, name: str) -> bool:
    """Whether a folder is a link to one that it lies in."""
    path = os.path.join(place, name)
    return os.path.islink(path) and Path(place).resolve().is_relative_to(Path(path).resolve())
