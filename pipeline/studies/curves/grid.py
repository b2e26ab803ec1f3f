"""Curves of many images, each with an x of its own, read off at common fractions."""

import numpy as np
import pyarrow as pa


def lengths_and_values(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Of lists, none of them null: how long each is, (n,), and all values in a row, float64."""
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths_n = np.asarray(lists.value_lengths(), dtype=np.int64)
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return lengths_n, values.astype(np.float64)


class Curves:
    """Rows whose `fraction` is there, each ascending; any number of columns are read off them."""

    def __init__(self, fraction: pa.ChunkedArray):
        self.length_n, self.x_P = lengths_and_values(fraction)
        self.end_n = self.length_n.cumsum()
        self.first_n = self.end_n - self.length_n

    def at(self, grid_G: np.ndarray, columns: list[pa.ChunkedArray]) -> list[np.ndarray]:
        """Each column, (n, G), linear between its points as `np.interp`; NaN where it is null."""
        n = len(self.length_n)
        apart_n = 2.0 * np.arange(n)  # so that one search serves all rows
        x_P = self.x_P + np.repeat(apart_n, self.length_n)
        wanted_nG = grid_G + apart_n[:, None]
        left_nG = np.searchsorted(x_P, wanted_nG, side="right") - 1
        left_nG = left_nG.clip(self.first_n[:, None], self.end_n[:, None] - 1)
        right_nG = np.minimum(left_nG + 1, self.end_n[:, None] - 1)
        run_nG = self.x_P[right_nG] - self.x_P[left_nG]
        step_nG = np.clip(grid_G - self.x_P[left_nG], 0, run_nG)
        share_nG = np.divide(step_nG, run_nG, out=np.zeros_like(run_nG), where=run_nG > 0)
        found = []
        for column in columns:
            y_P, there_n = self.values(column)
            y_nG = y_P[left_nG] + share_nG * (y_P[right_nG] - y_P[left_nG])
            y_nG[~there_n] = np.nan
            found.append(y_nG)
        return found

    def values(self, column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """A column's values in a row, (P,), NaN where a row has none, and which rows have some."""
        lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        there_n = np.asarray(lists.is_valid())
        _, known = lengths_and_values(lists.drop_null())
        if there_n.all():
            return known, there_n
        y_P = np.full(len(self.x_P), np.nan)
        y_P[np.repeat(there_n, self.length_n)] = known
        return y_P, there_n
