"""Noisy linear imputation: our solver, SciPy's on the same systems, and the model beside them.

Milliseconds an image of all three channels, the median of several turns taken by each; rows of ours
share the threads, SciPy's solver has one. `assembled`: the matrix is put
together from its entries at once; `by rows`: as a list of rows (lil_matrix), as often published.

    python -m benchmarks.imputation --threads 1
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_matrix, csc_matrix, lil_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from pipeline.api.presets import preset
from pipeline.data.images import decode
from pipeline.data.packers.demo import Demo
from pipeline.engine.device import keep_freed_memory
from pipeline.masking.multigrid import filled

OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def masks(side: int) -> Iterator[tuple[str, np.ndarray]]:
    """Random pixels and hidden cells of grids."""
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        yield f"pixels, {share:.0%}", rng.random((side, side)) < share
    for grid in (7, 14):
        for share in (0.1, 0.5, 0.9):
            hidden = np.zeros(grid**2, dtype=bool)
            hidden[rng.permutation(grid**2)[: round(share * grid**2)]] = True
            cells = hidden.reshape(grid, grid)
            yield f"{grid} x {grid}, {share:.0%}", np.kron(cells, np.ones((side // grid,) * 2)) > 0


def scipy_formulation(x_CHW: np.ndarray, hidden: np.ndarray, *, by_rows: bool) -> np.ndarray:
    """Assemble and solve."""
    (ys, xs), (height, width) = np.nonzero(hidden), hidden.shape
    n = len(ys)
    number = np.zeros(hidden.shape, dtype=int)
    number[hidden] = np.arange(n)
    sums_P, right_PC, entries = np.zeros(n), np.zeros((n, len(x_CHW))), []
    for dy, dx in OFFSETS:
        y, x = ys + dy, xs + dx
        there = np.flatnonzero((y >= 0) & (x >= 0) & (y < height) & (x < width))
        y, x, weight = y[there], x[there], 1 / 12 if dy and dx else 1 / 6
        sums_P[there] += weight
        unknown = hidden[y, x]
        right_PC[there[~unknown]] += weight * x_CHW[:, y[~unknown], x[~unknown]].T
        entries.append((there[unknown], number[y[unknown], x[unknown]], -weight))
    entries.append((np.arange(n), np.arange(n), sums_P))
    if by_rows:
        rows = lil_matrix((n, n))
        for i, j, value in entries:
            rows[i, j] = value
        matrix = csc_matrix(rows)
    else:
        i, j, value = (np.concatenate([np.broadcast_to(e[k], e[0].shape) for e in entries])
                       for k in range(3))  # fmt: skip
        matrix = coo_matrix((value, (i, j)), shape=(n, n)).tocsc()
    found = x_CHW.copy()
    found[:, ys, xs] = spsolve(matrix, right_PC).T
    return found


def timed(works: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median milliseconds of each; they take turns."""
    seconds = np.zeros((repeats, len(works)))
    for turn in seconds:
        for i, work in enumerate(works):
            start = time.perf_counter()
            work()
            turn[i] = time.perf_counter() - start
    return (1e3 * np.median(seconds, axis=0)).tolist()


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=8, help="of a batch")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    model = preset("model", "efficientnet_lite0").load()
    files = [Path(str(entry.image)) for entry in Demo().entries()]
    photographs = [model.transform(decode(file.read_bytes())) for file in files]
    x_BCHW: Tensor = torch.stack((photographs * given.images)[: given.images])
    side = model.input_hw[0]
    x_CHW = x_BCHW[0].double().numpy()
    forward = timed([lambda: model.logits(x_BCHW)], given.repeats)[0] / given.images
    print(f"{side} x {side}, {given.threads} threads; EfficientNet-Lite0 {forward:.1f} ms an image")
    heads = ("hidden", "ours", "assembled", "times", "by rows", "times", "forwards", "error")
    print(f"{heads[0]:14}" + "".join(f"{head:>11}" for head in heads[1:]))
    for name, hidden in masks(side):
        hidden_BHW = torch.from_numpy(hidden).expand(given.images, -1, -1)
        ours, one, other = timed(
            [
                lambda: filled(x_BCHW, hidden_BHW, 2.0),  # noqa: B023
                lambda: scipy_formulation(x_CHW, hidden, by_rows=False),  # noqa: B023
                lambda: scipy_formulation(x_CHW, hidden, by_rows=True),  # noqa: B023
            ],
            given.repeats,
        )
        ours /= given.images
        want = scipy_formulation(x_CHW, hidden, by_rows=False)
        error = np.abs(filled(x_BCHW[:1], hidden_BHW[:1], 2.0)[0].double().numpy() - want).max() / 2
        print(
            f"{name:14}{ours:11.1f}{one:11.1f}{one / ours:11.1f}{other:11.1f}{other / ours:11.1f}"
            f"{ours / forward:11.2f}{error:11.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
