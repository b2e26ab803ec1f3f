"""Regions as a PNG file: what rows keep of players that cannot be cut again from the image."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def packed(regions_HW: Tensor) -> bytes:
    """A grey PNG, a pixel's level its player, of 8 bits up to 256 players, else of 16."""
    players_HW = regions_HW.numpy()
    depth = np.uint8 if players_HW.max() < 256 else np.uint16
    buffer = io.BytesIO()
    Image.fromarray(players_HW.astype(depth)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def unpacked(content: bytes) -> Tensor:
    """The regions (H, W) that were packed."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        return torch.from_numpy(np.asarray(picture).astype(np.int64))
