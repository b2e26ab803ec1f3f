"""The working directory as a package: one zip of what a job needs, the same for the same files.

What git tracks, or would, without data: no tars, no runs. Outside of git it is every file that
neither begins with a dot nor lies in a folder of results.
"""

import glob
import hashlib
import io
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import UsageError
from pipeline.data.urls import braces
from pipeline.submission.revision import git

LEFT_OUT = ("runs", "data", "outputs", "multirun", "wandb")
"""Top folders that are sent only where they are asked for."""
BIGGEST = 5
LOOKED_FOR = 100
"""Shards of a brace pattern whose presence tells of the others'."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Package:
    """Files by their path in the folder, and the zip of them."""

    folder: Path
    files: Mapping[str, int]
    content: bytes

    @property
    def name(self) -> str:
        """A name that says what it holds."""
        return f"_ray_pkg_{hashlib.sha256(self.content).hexdigest()[:16]}.zip"

    def text(self) -> str:
        """A line of it."""
        size = sum(self.files.values())
        return (
            f"package: {len(self.files)} files of {self.folder}, {size / 1e6:.1f} MB, "
            f"{len(self.content) / 1e6:.1f} MB packed"
        )


def packed(folder: str, include: Sequence[str], most_mb: float) -> Package:
    """The package of a folder, with what `include` names besides.

    Raises UsageError for one of more than `most_mb`, naming the biggest entries, and for what is to
    be included and is not there.
    """
    root = Path(folder).resolve()
    if not root.is_dir():
        raise UsageError(f"submit.working_dir={folder}: no such folder; give one, or null")
    files = {name: (root / name).stat().st_size for name in sorted(_chosen(root, include))}
    size = sum(files.values())
    if size > most_mb * 1e6:
        raise UsageError(
            f"submit.working_dir={folder}: {size / 1e6:.1f} MB are more than submit.most_mb="
            f"{most_mb:g}; the biggest: {_biggest(files)}; move them, have git ignore them, or "
            "raise the limit"
        )
    return Package(root, files, _zip(root, files))


def lacking(settings: Any, package: Package, name: str = "") -> Iterator[str]:
    """Settings that name files of this folder which the package does not hold."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from lacking(value, package, f"{name}.{key}" if name else str(key))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from lacking(value, package, name)
    elif isinstance(settings, str) and (file := _unsent(settings, package)):
        yield f"{name}={settings} ({file} is not in the package)"


def _unsent(value: str, package: Package) -> str | None:
    """A file of the folder that a setting names, and the package does not hold."""
    if "/" not in value or "://" in value or os.path.isabs(value):
        return None
    for pattern in braces(value)[:LOOKED_FOR]:
        for found in sorted(glob.glob(pattern, root_dir=package.folder)):
            path = os.path.normpath(found)
            if not any(file == path or file.startswith(f"{path}/") for file in package.files):
                return path
    return None


def _chosen(root: Path, include: Sequence[str]) -> Iterator[str]:
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = _walked(root, root) if listed is None else os.fsdecode(listed).split("\0")
    for name in names:
        if name and (root / name).is_file() and not _left_out(name):
            yield name
    for name in include:
        path = root / name
        if not path.exists() or root not in path.resolve().parents:
            raise UsageError(f"submit.include: {name} is no file or folder below {root}")
        yield from [os.path.normpath(name)] if path.is_file() else _walked(root, path)


def _walked(root: Path, top: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(top):
        folders[:] = [f for f in folders if not f.startswith(".") and f != "__pycache__"]
        for name in names:
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), root)


def _left_out(name: str) -> bool:
    top, below, _ = name.partition("/")
    return (bool(below) and top in LEFT_OUT) or name.endswith((".tar", ".tar.gz"))


def _zip(root: Path, files: Mapping[str, int]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files:
            info = zipfile.ZipInfo(name, _EPOCH)
            executable = os.access(root / name, os.X_OK)
            info.external_attr = (0o100755 if executable else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, (root / name).read_bytes())
    return buffer.getvalue()


def _biggest(files: Mapping[str, int]) -> str:
    """Entries of the folder itself, and large files by themselves."""
    sizes: Counter[str] = Counter()
    for name, size in files.items():
        sizes[name.split("/")[0]] += size
    return ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.most_common(BIGGEST))
