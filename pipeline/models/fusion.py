"""Convolutions and the activations behind them as one oneDNN call on a CPU: a pass over memory
less, and none to pad images on one side only, as networks of TensorFlow do.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding, pad_same
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad
from torch.utils.flop_counter import conv_flop_count

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "hardtanh",
    nn.Hardtanh: "hardtanh",
    nn.SiLU: "swish",
    nn.Hardswish: "hardswish",
}
"""oneDNN's words."""


def _flops(x_shape: Sequence[int], w_shape: Sequence[int], *_: Any, out_shape: Any) -> int:
    return conv_flop_count(list(x_shape), list(w_shape), list(out_shape))


COUNTED = (
    {torch.ops.mkldnn._convolution_pointwise: _flops}
    if hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    else {}
)
"""How PyTorch's counter of FLOPs counts the fused call, which it does not know."""


@torch.inference_mode()
def fuse_activations(module: nn.Module, x_BCHW: Tensor, logits_BK: Tensor) -> nn.Module:
    """Fuse in place what computes the same: the module's own parameters under their own names, its
    own calls where gradients are on or numbers are not float32.

    Declaration order stands in for execution order, so each kind of pair is tried on `x_BCHW`,
    whose logits are given, and left apart where they differ beyond rounding.
    """
    if not COUNTED:
        return module
    kinds: defaultdict[Any, list[Pair]] = defaultdict(list)
    for pair in list(_pairs(module)):
        kinds[type(pair.parent), pair.name, type(pair.activation)].append(pair)
    scale = float(logits_BK.abs().max())
    for pairs in kinds.values():
        for pair in pairs:
            pair.fuse()
        try:
            same = torch.allclose(module(x_BCHW), logits_BK, rtol=1e-4, atol=1e-4 * scale)
        except RuntimeError:  # a build of PyTorch without this call, or a shape it does not take
            same = False
        if not same:
            for pair in pairs:
                pair.part()
    return module


class FusedConv(nn.Conv2d):
    """A convolution and an activation."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module):
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.activation = activation
        self.same = isinstance(conv, Conv2dSame)
        limits = [activation.min_val, activation.max_val] if _is_clamp(activation) else []
        self._said = (ACTIVATIONS[type(activation)], limits, "")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Activations (B, C, h, w)."""
        if torch.is_grad_enabled() or x_BCHW.dtype != torch.float32:
            if self.same:
                sizes, steps, apart = map(list, (self.kernel_size, self.stride, self.dilation))
                x_BCHW = pad_same(x_BCHW, sizes, steps, apart)
            convolved = conv2d(x_BCHW, self.weight, self.bias, self.stride, self.padding,
                               self.dilation, self.groups)  # fmt: skip
            return self.activation(convolved)
        weight, padding = self.weight, self.padding
        if self.same:
            x_BCHW, weight, padding = self._padded(x_BCHW)
        return torch.ops.mkldnn._convolution_pointwise(
            x_BCHW, weight, self.bias, padding, self.stride, self.dilation, self.groups, *self._said
        )

    def _padded(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """Image, weights, and padding of both sides. Where one side has a pixel more, channels of
        their own get a first row or column of weights that are 0, and the others a wider image."""
        sizes = zip(x_BCHW.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        totals = [int(get_same_padding(*one)) for one in sizes]
        odd = [total % 2 for total in totals]
        if not any(odd):
            return x_BCHW, self.weight, [total // 2 for total in totals]
        if self.groups == self.in_channels and self.dilation == (1, 1):
            weight = pad(self.weight, (odd[1], 0, odd[0], 0))
            return x_BCHW, weight, [(total + 1) // 2 for total in totals]
        (above, left), (below, right) = ([(t + k) // 2 for t in totals] for k in (0, 1))
        return pad(x_BCHW, (left, right, above, below)), self.weight, [0, 0]


class Pair(NamedTuple):
    """A convolution, its name in `parent`, and the activation that `holder` calls by `called`."""

    parent: nn.Module
    name: str
    conv: nn.Conv2d
    holder: nn.Module
    called: str
    activation: nn.Module

    def fuse(self) -> None:
        """The convolution does it all."""
        setattr(self.parent, self.name, FusedConv(self.conv, self.activation))
        setattr(self.holder, self.called, nn.Identity())

    def part(self) -> None:
        """As it was."""
        setattr(self.parent, self.name, self.conv)
        setattr(self.holder, self.called, self.activation)


def _pairs(parent: nn.Module) -> Iterator[Pair]:
    """Convolutions that an activation follows, with nothing between them."""
    children = list(parent.named_children())
    for place, (name, conv) in enumerate(children):
        if not isinstance(conv, nn.Conv2d):
            yield from _pairs(conv)
        elif type(conv) in (nn.Conv2d, Conv2dSame) and conv.padding_mode == "zeros":
            following = _following(parent, children[place + 1 :])
            if following is not None and not isinstance(conv.padding, str):
                yield Pair(parent, name, conv, *following)


def _following(
    parent: nn.Module, children: list[tuple[str, nn.Module]]
) -> tuple[nn.Module, str, nn.Module] | None:
    """The activation that comes next, in whom, and by what name."""
    for name, child in children:
        if type(child) in ACTIVATIONS:
            return parent, name, child
        inner = list(child.named_children())
        if type(child) is nn.Sequential and inner:
            return _following(child, inner)
        if type(child) not in (nn.Identity, nn.Sequential):
            return None
    return None


def _is_clamp(activation: nn.Module) -> bool:
    return ACTIVATIONS[type(activation)] == "hardtanh"
