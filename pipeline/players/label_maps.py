"""Label maps of any segmenter, from files: members of the tars beside the images, or a folder."""

import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline import UsageError
from pipeline.data import Sample
from pipeline.data.images import check_size, size
from pipeline.data.ranges import patiently
from pipeline.data.urls import local_path, told
from pipeline.models import transform
from pipeline.players import View, numbered, stand_in
from pipeline.players.masks import disjoint

MOST_BYTES = 1 << 30
"""Of all arrays of a file, unpacked."""


@dataclass(frozen=True, kw_only=True)
class LabelMaps:
    """`member`: the map's extension in the tar, such as seg.png for <key>.seg.png; or `folder`: a
    path or fsspec URL with a <key>.png or <key>.npz for each image.

    A PNG (grey of 8 or 16 bits, palette or RGB): each value is a region. An .npz without pickles:
    `regions`, integers (H, W), or `masks`, bool (M, H, W), which `disjoint` makes regions of. Maps
    of the image's own size (as decoded, so turned where dataset.exif is set) follow it through
    resize and crop, nearest neighbour; what that cuts away is no player. Maps of the model's input
    size are taken as they are.

    Members are part of a row's `content`, so that an image whose map changes is computed anew; a
    folder is known by its name alone: give new maps a new folder.
    """

    member: str | None = None
    folder: str | None = None

    def __post_init__(self):
        if (self.member is None) == (self.folder is None):
            raise UsageError(
                "players: label maps are in the tars or in a folder: give players.member (such as "
                "seg.png) or players.folder, one of them"
            )

    @property
    def members(self) -> tuple[str, ...]:
        """Extensions of what is read beside the image; those of indexes are in lower case."""
        return () if self.member is None else (self.member.lower(),)

    def __call__(self, view: View, heat_HW: Tensor | None = None) -> Tensor:
        """Regions (H, W). Raises ValueError, which names the map, where it is missing, damaged or
        of another size."""
        if view.blank:
            self._check_folder()
            return stand_in(view)
        if view.sample is None:
            raise UsageError("players: label maps are of a data set's samples; use other players")
        name, content = self._found(view.sample)
        try:
            labels_HW = _parsed(content)
        except Exception as error:  # damaged files raise errors of every kind
            raise ValueError(f"{name} is no label map: {error}") from None
        own_hw = size(view.sample.encoded, exif=view.sample.exif)
        input_hw = tuple(view.image_CHW.shape[-2:])
        if labels_HW.shape == own_hw:
            return follow(labels_HW, view.preprocessing)
        if labels_HW.shape == input_hw:
            return numbered(labels_HW)
        given, own, seen = ("x".join(map(str, hw)) for hw in (labels_HW.shape, own_hw, input_hw))
        raise ValueError(
            f"{name} has {given} pixels, neither the image's own {own} nor the model's {seen}"
        )

    def _check_folder(self) -> None:
        """Raise UsageError for a folder that cannot be one."""
        if self.folder is not None:
            with told("players.folder", self.folder):
                fsspec.core.url_to_fs(self.folder)
                path = local_path(self.folder)
                if path is not None and not os.path.isdir(path):
                    raise FileNotFoundError

    def _found(self, sample: Sample) -> tuple[str, bytes]:
        """The map's name and bytes."""
        for member in self.members:
            if member not in sample.members:
                raise ValueError(f"{sample.key} has no member {member} (players.member)")
            return member, sample.members[member]
        for extension in ("png", "npz"):
            url = f"{str(self.folder).rstrip('/')}/{sample.key}.{extension}"
            content = patiently(lambda url=url: _content(url), url)
            if content is not None:
                return url, content
        raise ValueError(f"{url} does not exist, nor as .png (players.folder)")


def follow(labels_HW: Tensor, preprocessing: Mapping[str, Any]) -> Tensor:
    """Regions (h, w) of a map (H, W) of an image, resized and cropped as the model's input is. What
    that adds around the image is a region of its own, the first."""
    return numbered(followed(numbered(labels_HW) + 1, preprocessing))


def followed(code_HW: Tensor, preprocessing: Mapping[str, Any]) -> Tensor:
    """Numbers (H, W) of 24 bits, resized and cropped as the model's input is, nearest neighbour;
    what that adds is 0. They take the image's way as a picture whose colours are numbers."""
    colours_HWC = (code_HW[..., None] >> torch.tensor([16, 8, 0]) & 255).byte().numpy()
    plain = {"interpolation": "nearest", "mean": (0, 0, 0), "std": (1, 1, 1)}
    colours_Chw = transform({**preprocessing, **plain})(Image.fromarray(colours_HWC))
    return _number((colours_Chw * 255).round().long().permute(1, 2, 0))


def _number(colours_HWC: Tensor) -> Tensor:
    """Colours of 8 bits as one number."""
    return (colours_HWC << torch.tensor([16, 8, 0])).sum(2)


def _content(url: str) -> bytes | None:
    """A file's bytes, None where there is no such file."""
    fs, path = fsspec.core.url_to_fs(url)
    try:
        return bytes(fs.cat_file(path))  # type: ignore[arg-type]
    except FileNotFoundError:
        return None


def _parsed(content: bytes) -> Tensor:
    """Any file's labels (H, W), int64."""
    if content.startswith(b"PK"):
        return _arrays(content)
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        check_size(*picture.size)
        if picture.mode not in ("1", "L", "P", "I", "I;16", "RGB"):
            raise ValueError(f"a PNG of mode {picture.mode}; save it as grey, palette or RGB")
        labels = torch.from_numpy(np.asarray(picture).astype(np.int64))
    return labels if labels.ndim == 2 else _number(labels)


def _arrays(content: bytes) -> Tensor:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
    if total > MOST_BYTES:
        raise ValueError(f"its arrays have {total:,} bytes, more than {MOST_BYTES:,}")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        name = "masks" if "masks" in arrays else "regions"
        if name not in arrays:
            raise ValueError(f"an .npz of {', '.join(arrays) or 'nothing'}; give regions or masks")
        found = arrays[name]
    kinds, axes = {"regions": ("iu", 2), "masks": ("b", 3)}[name]
    if found.dtype.kind not in kinds or found.ndim != axes or 0 in found.shape[-2:]:
        raise ValueError(
            f"{name} are {found.dtype} {found.shape}; give integers (H, W) as regions or bool "
            "(M, H, W) as masks"
        )
    return disjoint(found) if name == "masks" else torch.from_numpy(found.astype(np.int64))
