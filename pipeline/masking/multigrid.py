"""Harmonic filling: hidden pixels become the weighted mean of their neighbours, for many rows.

(A x)_i = sum_j w_ij (x_i - x_j) = 0 on hidden pixels, over the neighbours j that exist, visible x
fixed. Conjugate gradients from a pull-push start (Gortler et al., SIGGRAPH 1996), preconditioned by
a V-cycle of multigrid (Tatebe 1993). Its coarse functions are bilinear and lie wholly within hidden
pixels, where A has the same stencil at every resolution: that suits any mask.

Arrays are NumPy's on a CPU, row by row, so that a row stays in a core's cache and small grids cost
little beside their sums, and torch's elsewhere, all rows at once; what is done to them is the same.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any
"""NumPy's or torch's, float32."""

TOLERANCE = 1e-5
"""Of a span of values: the error that a V-cycle estimates at the worst pixel, a fifth of the true
one or more."""
MOST = 30
"""Steps of conjugate gradients: it takes 7 to 9 for blocks, 14 where 99 % are hidden at random."""
FIRST = 3
"""Steps before errors are looked at."""
LEAST = 9
"""Side of a grid that is solved directly."""
OWN = 4
"""How often a pixel counts among the sixteen of its own sum."""


def filled(x_BCHW: Tensor, hidden_BHW: Tensor, span: float = 1.0) -> Tensor:
    """`x_BCHW` (float32) with hidden pixels filled; a row that is hidden as a whole is zero.

    The weights are 1/6 for the four next pixels and 1/12 for the diagonal ones. Errors are below
    1e-4 of `span`, the span of values. A row's result does not depend on the other rows.
    """
    nothing_B = hidden_BHW.all((1, 2))
    x_BCHW = torch.where(nothing_B[:, None, None, None], 0, x_BCHW)
    hidden_B1HW = (hidden_BHW & ~nothing_B[:, None, None])[:, None].float()
    if x_BCHW.device.type != "cpu":
        return _solved(x_BCHW, hidden_B1HW, TOLERANCE * span)
    rows = zip(x_BCHW.split(1), hidden_B1HW.split(1), strict=True)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        found = threads.map(lambda r: _solved(r[0].numpy(), r[1].numpy(), TOLERANCE * span), rows)
        return torch.from_numpy(np.concatenate(list(found)))


def _solved(x_BCHW: Array, hidden_B1HW: Array, tolerance: float) -> Array:
    """Conjugate gradients. Planes that are near enough stay as they are, whatever others do."""
    xp, grid = _module(x_BCHW), Grid(hidden_B1HW)
    x = grid.start(x_BCHW * (1 - hidden_B1HW))
    r = grid.pull(x)
    z = grid.cycle(r)
    p, rz = 1 * z, _dot(r, _inner(z))
    going = xp.ones_like(rz)
    for k in range(MOST):
        pull = grid.pull(p)
        step = going * rz / (-_dot(pull, _inner(p))).clip(1e-30)
        x += step * p
        pull *= step
        r += pull
        z = grid.cycle(r)
        if k >= FIRST:
            most, least = (end(z, (2, 3), keepdims=True) for end in (xp.amax, xp.amin))
            going = going * (xp.maximum(most, -least) >= tolerance)
            if xp is np and not going.any():
                break  # a GPU is not waited for
        before, rz = rz, _dot(r, _inner(z))
        p *= rz / before.clip(1e-30)
        p += z
    return _inner(x)


class Grid:
    """Masks of one resolution (B, 1, h, w), 1 = hidden, and those below it.

    Values come in frames of zeros (B, C, h + 2, w + 2), residuals do not. A coarse point sits on
    every other pixel, from the first to the last or the one behind it.
    """

    def __init__(self, hidden: Array):
        self.hidden = hidden
        self.sides = hidden.shape[2:]
        self.sum = _of_ones(*self.sides, None if _module(hidden) is np else hidden.device)
        self.inverse = hidden / (self.sum - OWN)
        self.coarse: Grid | None = None
        self.direct: Array = None
        self._found: Array = None
        if max(self.sides) <= LEAST:
            self.direct = self._direct()
            return
        self.seen = _down(1 - hidden)
        deeper = 0 * self.seen + (self.seen == 0)
        if _module(hidden) is torch or deeper.any():
            self.coarse = Grid(deeper)

    def pull(self, x: Array) -> Array:
        """-A x times 12. What it says of visible pixels counts nowhere."""
        # sixteen times a constant is exact: that its pull is none, small residuals need
        sums = _sums(x)
        sums -= self.sum * _inner(x)
        return sums

    def start(self, x: Array) -> Array:
        """Pull-push: hidden pixels between means of visible ones, coarser the farther these are."""
        x = _framed(x)
        if self.direct is None:
            means = _down(_inner(x)) / self.seen.clip(1e-6)
            if self.coarse is not None:
                means = _inner(self.coarse.start(means * (1 - self.coarse.hidden)))
            between = 0 * _inner(x)
            _add_up(between, means)
            between *= self.hidden
            _inner(x)[...] += between
        return x

    def cycle(self, r: Array) -> Array:
        """About the inverse of A, and symmetric: a Jacobi sweep, coarser grids, a Jacobi sweep."""
        if self._found is None:
            self._found = _framed(0 * r)
        z, inner = self._found, _inner(self._found)
        if self.direct is not None:
            inner[...] = (r.reshape(*r.shape[:2], -1) @ self.direct).reshape(r.shape)
            return z
        _module(r).multiply(self.inverse, r, out=inner)
        around = _around(z)  # all that is left of r
        if self.coarse is None:
            around *= self.inverse
            inner += around
            return z
        _add_up(inner, _inner(self.coarse.cycle(_down(around))))
        around = _around(z)
        around += r
        _module(r).multiply(self.inverse, around, out=inner)
        return z

    def _direct(self) -> Array:
        """Inverses (B, P, P) on hidden pixels, zero elsewhere."""
        height, width = self.sides
        size = height * width
        eye_PP = _zeros(self.hidden, size, size)
        eye_PP[range(size), range(size)] = 1
        planes_P1hw = eye_PP.reshape(size, 1, height, width)
        matrix_PP = (planes_P1hw * self.sum - _sums(_framed(planes_P1hw))).reshape(size, size)
        hidden_BP = self.hidden.reshape(-1, size)
        both_BPP = hidden_BP[:, :, None] * hidden_BP[:, None, :]
        visible_BPP = eye_PP * (1 - hidden_BP)[:, None]
        return _module(eye_PP).linalg.inv(matrix_PP * both_BPP + visible_BPP) * both_BPP


def _module(x: Array) -> Any:
    return np if isinstance(x, np.ndarray) else torch


def _zeros(like: Array, *shape: int) -> Array:
    return np.zeros(shape, like.dtype) if _module(like) is np else like.new_zeros(shape)


def _framed(x: Array) -> Array:
    height, width = x.shape[2:]
    framed = _zeros(x, *x.shape[:2], height + 2, width + 2)
    _inner(framed)[...] = x
    return framed


def _inner(framed: Array) -> Array:
    return framed[..., 1:-1, 1:-1]


def _around(x: Array) -> Array:
    """Twelve times the weighted sum of each pixel's neighbours."""
    sums = _sums(x)
    sums -= OWN * _inner(x)
    return sums


def _sums(x: Array) -> Array:
    """[1, 2, 1] both ways: the pixel itself counts OWN times."""
    s = x[..., :-1] + x[..., 1:]
    s = s[..., :-1, :] + s[..., 1:, :]
    s = s[..., :-1] + s[..., 1:]
    return s[..., :-1, :] + s[..., 1:, :]


def _down(r: Array) -> Array:
    """Sums weighted by coarse functions, [1/2, 1, 1/2] both ways around every other pixel."""
    height, width = r.shape[2:]
    rows = _zeros(r, *r.shape[:2], height // 2 + 1, width)
    rows[..., : (height + 1) // 2, :] = r[..., ::2, :]
    half = 0.5 * r[..., 1::2, :]
    rows[..., : height // 2, :] += half
    rows[..., 1:, :] += half
    found = _zeros(r, *rows.shape[:3], width // 2 + 1)
    found[..., : (width + 1) // 2] = rows[..., ::2]
    half = 0.5 * rows[..., 1::2]
    found[..., : width // 2] += half
    found[..., 1:] += half
    return found


def _add_up(fine: Array, coarse: Array) -> None:
    """Add coarse functions, each times its value, to fine values in place."""
    height, width = fine.shape[2:]
    wide = _zeros(coarse, *coarse.shape[:3], 2 * coarse.shape[3] - 1)
    wide[..., ::2] = coarse
    wide[..., 1::2] = 0.5 * (coarse[..., :-1] + coarse[..., 1:])
    wide = wide[..., :width]
    fine[..., ::2, :] += wide[..., : (height + 1) // 2, :]
    fine[..., 1::2, :] += 0.5 * (wide[..., :-1, :] + wide[..., 1:, :])[..., : height // 2, :]


def _dot(a: Array, b: Array) -> Array:
    """Of each plane (B, C, 1, 1)."""
    return _module(a).einsum("bchw,bchw->bc", a, b)[..., None, None]


@lru_cache(maxsize=64)
def _of_ones(height: int, width: int, device: torch.device | None) -> Array:
    """Sums of ones (1, 1, h, w): 16 but for the border, whose pixels have fewer neighbours; None:
    NumPy's."""
    shape = (1, 1, height, width)
    ones = torch.ones(shape, device=device) if device else np.ones(shape, np.float32)
    return _sums(_framed(ones))
