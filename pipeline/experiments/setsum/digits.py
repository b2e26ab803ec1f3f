"""Visual Set-Sum (MoXI, Sec. 4.1): 2 x 2 composites of handwritten digits, labelled set-sum.

label = sum of the DISTINCT digits that are visible: (2, 2, 1, 0) -> 3, so 0 to 30, 31 classes. The
digits are scikit-learn's (1,797 of 8 x 8 pixels); train and test composites share none of them.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline import UsageError
from pipeline.data.packers import Entry

TILE = 8
TILES = 4
CLASSES = 31


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Tiles, uint8 (M, 8, 8), and the digit that each shows, int64 (M,)."""

    tiles_MHW: np.ndarray
    digit_M: np.ndarray

    def __len__(self) -> int:
        return len(self.digit_M)

    def composites(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n composites: images uint8 (n, 16, 16) and the four digits of each (n, 4).

        Tiles are numbered row by row, as the players of `PatchGrid(grid=2)`.
        """
        drawn_n4 = rng.integers(len(self), size=(n, TILES))
        tiles_n22HW = self.tiles_MHW[drawn_n4].reshape(n, 2, 2, TILE, TILE)
        images_nHW = tiles_n22HW.swapaxes(2, 3).reshape(n, 2 * TILE, 2 * TILE)
        return images_nHW, self.digit_M[drawn_n4]


def split(*, test_share: float, seed: int) -> tuple[Digits, Digits]:
    """Train and test digits, disjoint. Raises UsageError where scikit-learn is missing."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UsageError("Set-Sum needs 'sklearn': pip install 'pixel-quorum[demo]'") from None
    if not 0 < test_share < 1:
        raise UsageError(f"composites.test_share={test_share}: give a share between 0 and 1")
    found = load_digits()
    tiles_MHW = (found.images * 255 / 16).round().astype(np.uint8)  # 0..16 as they come
    shuffled_M = np.random.default_rng([seed, 0]).permutation(len(tiles_MHW))
    cut = round(len(tiles_MHW) * test_share)
    test, train = (
        Digits(tiles_MHW=tiles_MHW[chosen], digit_M=found.target[chosen].astype(np.int64))
        for chosen in (shuffled_M[:cut], shuffled_M[cut:])
    )
    return train, test


def set_sum(digits_n4: np.ndarray, visible_n4: np.ndarray | None = None) -> np.ndarray:
    """Sum of the distinct visible digits, int64 (n,); all are visible where nothing is said."""
    if visible_n4 is None:
        visible_n4 = np.ones_like(digits_n4, dtype=bool)
    shows_n10 = ((digits_n4[..., None] == np.arange(10)) & visible_n4[..., None]).any(-2)
    return shows_n10 @ np.arange(10)


@dataclass(frozen=True)
class Composites:
    """Composites to pack: an 8-bit grey PNG, the set-sum and the four digits of each."""

    images_nHW: np.ndarray
    digits_n4: np.ndarray

    def entries(self) -> Iterator[Entry]:
        """In order."""
        labels_n = set_sum(self.digits_n4)
        for index, image_HW in enumerate(self.images_nHW):
            buffer = io.BytesIO()
            Image.fromarray(image_HW).save(buffer, "PNG")
            yield Entry(
                key=key(index),
                image=buffer.getvalue(),
                extension="png",
                label=int(labels_n[index]),
                details={"digits": self.digits_n4[index].tolist()},
            )

    def class_names(self) -> list[str]:
        """The sums."""
        return [str(total) for total in range(CLASSES)]


def key(index: int) -> str:
    """Key of the index-th composite."""
    return f"{index:06d}"
