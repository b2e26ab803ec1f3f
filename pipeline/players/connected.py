"""Every region in one piece, each pixel joined to its neighbours left, right, above and below."""

import numpy as np
import torch
from torch import Tensor

from pipeline.players.opencv import opencv


def connected(regions_HW: Tensor) -> Tensor:
    """Regions (H, W), as many as before: each keeps its largest piece (of equals, the first row by
    row), its other pieces go to the neighbour with the longest common border.

    Pieces between pieces are given away once one of their neighbours is. The lowest index wins.
    """
    piece_HW, owner_P = _pieces(regions_HW.numpy())
    a_E, b_E, length_E = _borders(piece_HW)
    n_regions = int(regions_HW.max()) + 1
    while (owner_P < 0).any():
        border_PN = np.zeros((len(owner_P), n_regions), dtype=np.int64)
        for one_E, other_E in ((a_E, b_E), (b_E, a_E)):
            meets_E = (owner_P[one_E] < 0) & (owner_P[other_E] >= 0)
            at = one_E[meets_E], owner_P[other_E[meets_E]]
            np.add.at(border_PN, at, length_E[meets_E])
        given_P = border_PN.any(1)
        owner_P[given_P] = border_PN[given_P].argmax(1)
    return torch.from_numpy(owner_P[piece_HW])


def _pieces(regions_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's piece, numbered row by row of first pixels, and each piece's region: -1 for all
    but the largest of a region."""
    cv2, found_HW, count = opencv(), np.zeros(regions_HW.shape, dtype=np.int64), 0
    for region in range(int(regions_HW.max()) + 1):
        inside_HW = regions_HW == region
        n, own_HW = cv2.connectedComponents(inside_HW.astype(np.uint8), connectivity=4)
        found_HW[inside_HW] = own_HW[inside_HW] + count - 1
        count += n - 1
    _, first_P, piece_HW, size_P = np.unique(
        found_HW, return_index=True, return_inverse=True, return_counts=True
    )
    by_place_P = np.argsort(first_P)
    piece_HW = np.argsort(by_place_P)[piece_HW.reshape(regions_HW.shape)]
    region_P, size_P = regions_HW.flat[first_P[by_place_P]], size_P[by_place_P]
    by_size_P = np.lexsort((np.arange(len(size_P)), -size_P))
    regions, largest = np.unique(region_P[by_size_P], return_index=True)
    owner_P = np.full(len(size_P), -1, dtype=np.int64)
    owner_P[by_size_P[largest]] = regions
    return piece_HW, owner_P


def _borders(piece_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of pieces that meet, and the pairs of pixels along which they do."""
    beside = piece_HW[:, :-1].ravel(), piece_HW[:, 1:].ravel()
    below = piece_HW[:-1].ravel(), piece_HW[1:].ravel()
    one_E, other_E = (np.concatenate(both) for both in zip(beside, below, strict=True))
    low_E, high_E = np.minimum(one_E, other_E), np.maximum(one_E, other_E)
    wide = int(piece_HW.max()) + 1
    pair_E, length_E = np.unique((low_E * wide + high_E)[low_E < high_E], return_counts=True)
    return pair_E // wide, pair_E % wide, length_E
