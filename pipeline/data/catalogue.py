"""What a folder of shards says of itself: its tars, split by split.

`manifest.json` as jobs.pack writes it, `_info.json` as data sets on the hub have it
(timm/imagenet-1k-wds), `nshards.txt` as CLIP-benchmark has it (`<split>/0.tar`, `<split>/1.tar`).
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import fsspec

from pipeline import UsageError
from pipeline.data.urls import local_path, matches, told

MANIFEST = "manifest.json"
NAMES = "classnames.txt"
"""One name a line, by class index; empty where images have no classes."""


def is_folder(url: str) -> bool:
    """Whether a name is that of a folder; in a store, of anything but a tar (`x.tar?signature`)."""
    path = local_path(url)
    return os.path.isdir(path) if path is not None else ".tar" not in url.rpartition("/")[2]


def tars(folder: str, split: str | None) -> list[str]:
    """Tars of a folder, of one split or all. Raises UsageError where there are none."""
    folder = folder.rstrip("/")
    if (held := _json(f"{folder}/{MANIFEST}")) is not None:
        splits: dict[str, list[str]] = {}
        for shard in held["shards"]:
            splits.setdefault(shard["split"], []).append(shard["name"])
    elif (held := _json(f"{folder}/_info.json")) is not None:
        splits = {name: list(of["filenames"]) for name, of in held["splits"].items()}
    else:
        place = f"{folder}/{split}" if split else folder
        if (count := _text(f"{place}/nshards.txt")) is not None:
            return [f"{place}/{i}.tar" for i in range(_count(count, f"{place}/nshards.txt"))]
        return _by_name(folder, split)
    return [f"{folder}/{name}" for name in _of(splits, split, folder)]


def _of(splits: Mapping[str, list[str]], split: str | None, folder: str) -> list[str]:
    if split is not None and split not in splits:
        known = ", ".join(filter(None, splits)) or "none"
        raise UsageError(f"dataset.split={split}: the splits of {folder} are: {known}")
    return [name for of in ([split] if split is not None else splits) for name in splits[of]]


def _by_name(folder: str, split: str | None) -> list[str]:
    """Of a folder that says nothing: its tars, those whose name holds the split's."""
    pattern = f"{folder}/*.tar"
    found = matches(pattern)
    chosen = [url for url in found if split is None or split in url.rpartition("/")[2]]
    if not chosen:
        raise UsageError(
            f"dataset.split={split}: {folder} has neither {MANIFEST} nor _info.json, and no tar "
            "there has the split in its name"
        )
    return chosen


def _count(text: str, place: str) -> int:
    if not text.strip().isascii() or not text.strip().isdigit():
        raise UsageError(f"{place}: {text.strip()[:40]!r}: expected the number of shards")
    return int(text)


def _json(url: str) -> Any:
    text = _text(url)
    try:
        held = None if text is None else json.loads(text)
        if held is None or "shards" in held or "splits" in held:
            return held
    except (ValueError, RecursionError, TypeError):
        pass
    raise UsageError(f"{url} says nothing of shards; pack anew, or name the tars instead")


def _text(url: str) -> str | None:
    """A small file, None where there is none."""
    with told("dataset.shards", url):
        fs, path = fsspec.core.url_to_fs(url)
        try:
            content: Any = fs.cat_file(path)
        except FileNotFoundError:
            return None
        return content.decode()
