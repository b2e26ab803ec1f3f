"""Pixel Quorum: which group of pixels carries an image classifier's decision, over whole data sets.

Words: a *player* is one region of an image; a *coalition* is a bool vector over players, True =
visible; a *masking* hides the absent players; an *order* ranks players, most important first.

Shape suffixes, used in names throughout: B rows of a device batch, C coalitions of one query,
N players, H W pixels, K classes of the model, T classes read out, L tokens, D token width,
G points of a curve, R bootstrap resamples.
"""


class UsageError(ValueError):
    """The request cannot be served; the one-line message names what is wrong and the fix."""


class RunError(RuntimeError):
    """Work stopped through no fault of the request; the one-line message says why."""
