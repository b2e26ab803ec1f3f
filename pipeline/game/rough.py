"""Coalitions as a model of reduced precision answers them: the same program on a copy in bf16.

On a CPU, where bf16 is no faster, the copy simulates it: weights and what every layer returns are
rounded to bf16, sums are fp32's.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.engine import Program, Request, Spent
from pipeline.game import Coalitions, Seat
from pipeline.game.sets import Hands
from pipeline.models import Model


@dataclass(frozen=True)
class Roughly:
    """A question: coalitions, in reduced precision."""

    asked: Coalitions

    @property
    def sets(self) -> int:
        """Each takes a forward."""
        return self.asked.sets

    def at(self, seat: Seat) -> Request:
        """The same rows of another program."""
        request = seat.request(self.asked)
        return replace(request, program=OnRough(request.program))


@dataclass(frozen=True)
class OnRough:
    """A program over prepared images that runs the copy."""

    program: Program

    def lengths(self, model: Model, rows: Any) -> Any:
        """As the program says."""
        return self.program.lengths(model, rows)

    def launch(self, model: Model, pieces: list[Hands], spent: Spent) -> Any:
        """On the other model, with images in its dtype."""
        other = rough(model)
        cast = [Hands(_cast(p.prepared, other.dtype), *p[1:]) for p in pieces]
        return self.program.launch(other, cast, spent)

    def answer(self, landed: Any, pieces: list[Any]) -> list[Any]:
        """As the program says."""
        return self.program.answer(landed, pieces)

    def join(self, answers: list[Any], order: np.ndarray) -> Any:
        """As the program says."""
        return self.program.join(answers, order)


_ROUGH: WeakKeyDictionary[nn.Module, Model] = WeakKeyDictionary()


def rough(model: Model) -> Model:
    """The copy; kept as long as the model itself, beside which it takes half of its memory again,
    on a CPU the same."""
    if model.module not in _ROUGH:
        module = copy.deepcopy(model.module)
        module = _rounding(module) if model.device.type == "cpu" else module.to(torch.bfloat16)
        _ROUGH[model.module] = replace(model, module=module)
    return _ROUGH[model.module]


def _rounding(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(_rounded(tensor))
    for layer in module.modules():
        if not any(layer.children()):
            layer.register_forward_hook(lambda _layer, _given, found: _rounded(found))
    return module


def _rounded(found: Any) -> Any:
    floats = isinstance(found, Tensor) and found.is_floating_point()
    return found.to(torch.bfloat16).to(found.dtype) if floats else found


def _cast(prepared: Any, dtype: torch.dtype) -> Any:
    """A prepared image, a named tuple, whose tensors of numbers are of this dtype."""
    return type(prepared)(
        *(
            part.to(dtype) if isinstance(part, Tensor) and part.is_floating_point() else part
            for part in prepared
        )
    )
