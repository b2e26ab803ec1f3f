"""A network as features and a linear classifier: module(x) = head(body(x)).

The body is the network with its last linear layer taken out. It shares every weight, and the split
is believed only after both ways gave the same logits.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline import UsageError


class Parts(NamedTuple):
    """Image -> features -> logits; a network that cannot be split is its own body."""

    body: nn.Module
    head: nn.Module


def example(input_size: Sequence[int]) -> Tensor:
    """One normalised image of random pixels, the same every time: (1, C, H, W)."""
    return torch.randn(1, *input_size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def forward(module: nn.Module, x_BCHW: Tensor, least: int = 2) -> Tensor:
    """Logits (B, K), K >= `least`. Raises UsageError for a module that gives anything else."""
    logits_BK = module(x_BCHW)
    if not isinstance(logits_BK, Tensor):
        raise UsageError(f"the model gives {type(logits_BK).__name__}, not a tensor of logits")
    if logits_BK.ndim != 2 or logits_BK.shape[1] < least:
        raise UsageError(
            f"the model gives {tuple(logits_BK.shape)} for one image, not logits of two classes "
            "or more (log-odds need two classes); check model.kwargs.num_classes, or give "
            "model.output=scalar for a model of one output"
        )
    return logits_BK


@torch.no_grad()
def split(module: nn.Module, x_BCHW: Tensor, least: int = 2) -> Parts:
    """Body and head, or the module and an identity where it is no features and linear classifier.

    So with two heads (distilled DeiT), a convolution for a head, anything after the head.
    """
    logits_BK = forward(module, x_BCHW, least)
    whole = Parts(module, nn.Identity())
    path = _head(module)
    if path is None:
        return whole
    head, body = module.get_submodule(path), _without(module, path.split(".") if path else [])
    try:
        features_BD = body(x_BCHW)
        found_BK = head(features_BD)
    except Exception:  # the module does with its head what cannot be done with features
        return whole
    tolerance = max(1e-5, 2 * torch.finfo(logits_BK.dtype).eps) * float(logits_BK.abs().max())
    same = found_BK.shape == logits_BK.shape and torch.allclose(
        found_BK, logits_BK, rtol=0, atol=tolerance
    )
    return Parts(body, head) if same else whole


def _head(module: nn.Module) -> str | None:
    """Path of the layer that timm calls the classifier, or else of the last linear layer."""
    own = module.get_classifier() if hasattr(module, "get_classifier") else None  # type: ignore[operator]
    linear = {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear)}
    named = [name for name, m in linear.items() if m is own]
    return next(reversed(named or list(linear)), None)


def _without(module: nn.Module, path: list[str]) -> nn.Module:
    """The module with an identity at `path`: containers on the way copied, all else shared."""
    if not path:
        return nn.Identity()
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    copied._modules[path[0]] = _without(module.get_submodule(path[0]), path[1:])
    return copied
