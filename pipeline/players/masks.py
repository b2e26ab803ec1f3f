"""Masks that may overlap to regions that do not: of SMDL-Attribution (ICLR 2024)."""

import numpy as np
import torch
from torch import Tensor

from pipeline.players import numbered

LEAST = 0.0005
"""A mask that holds no more than this share of the image is dropped."""


def disjoint(masks_MHW: np.ndarray) -> Tensor:
    """Regions (H, W) of masks, bool (M, H, W), in their order; what no mask covers is the last.

    Pair by pair, first by second, of two that overlap the smaller keeps the overlap (of equals the
    second), by what both have left by then.
    """
    n_masks, height, width = masks_MHW.shape
    bits_MP = np.packbits(masks_MHW.reshape(n_masks, height * width), axis=1)
    area_M = np.bitwise_count(bits_MP).sum(1, dtype=np.int64)
    for i in range(n_masks):
        for j in range(i + 1, n_masks):
            both_P = bits_MP[i] & bits_MP[j]
            if shared := int(np.bitwise_count(both_P).sum(dtype=np.int64)):
                larger = j if area_M[i] < area_M[j] else i
                bits_MP[larger] ^= both_P
                area_M[larger] -= shared
    labels_P = np.full(height * width, n_masks, dtype=np.int64)
    for i in np.flatnonzero(area_M > LEAST * height * width):
        labels_P[np.unpackbits(bits_MP[i], count=height * width).astype(bool)] = i
    return numbered(torch.from_numpy(labels_P).view(height, width))
