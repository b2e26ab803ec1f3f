"""Prototypes of classes, the classifier of a dual encoder: logits = scale * f / |f| @ prototypes.T.

A prototype is the embedding that stands for a class: of texts (CLIP) or of labelled images.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from pipeline import UsageError
from pipeline.models.weights import reason

FIX = "give a .npy, .npz, .safetensors or .pt file with one (K, D) float matrix"


class Prototypes(nn.Linear):
    """Embeddings (B, D) to logits (B, K). `weight` holds the prototypes times `scale`.

    `normalise`: rows to unit length first, so that logits are scaled cosines.
    """

    def __init__(self, rows_KD: Tensor, *, scale: float, normalise: bool):
        super().__init__(rows_KD.shape[1], len(rows_KD), bias=False, device="meta")
        self.weight = nn.Parameter(scale * (normalize(rows_KD) if normalise else rows_KD))

    def forward(self, embedding_BD: Tensor) -> Tensor:
        """Logits of embeddings of any length; zero, which has no direction, likes all the same.

        An attention pool classifies each token before it chooses one: (B, L, D) to (B, L, K).
        """
        return super().forward(normalize(embedding_BD, dim=-1))


def read_prototypes(path: str) -> Tensor:
    """The one float matrix (K, D) that a file holds, as float32; no code in it is ever run.

    Raises UsageError for a file that holds anything else, fewer than two classes, a row of zeros.
    """
    said = f"model.prototypes={path!r}"
    if not Path(path).is_file():
        raise UsageError(f"{said}: no such file; {FIX}")
    try:
        held = _tensors(path)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{said} cannot be read: {reason(error)}; {FIX}") from None
    shapes = {name: tuple(tensor.shape) for name, tensor in held.items()}
    if len(held) != 1:
        raise UsageError(f"{said} holds {shapes or 'nothing'}; {FIX}")
    (rows_KD,) = held.values()
    if rows_KD.ndim != 2 or not rows_KD.is_floating_point() or len(rows_KD) < 2:
        raise UsageError(
            f"{said} holds {rows_KD.dtype} of shape {tuple(rows_KD.shape)}, not float vectors of "
            f"two classes or more; {FIX}"
        )
    rows_KD = rows_KD.float()
    lengths_K = rows_KD.norm(dim=1)
    wrong = ~lengths_K.isfinite() | (lengths_K == 0)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise UsageError(f"{said}: row {row} is zero or not finite; every class needs a direction")
    return rows_KD


def _tensors(path: str) -> dict[str, Tensor]:
    kind = Path(path).suffix
    if kind == ".safetensors":
        return load_file(path)
    if kind in (".npy", ".npz"):
        held = np.load(path, allow_pickle=False)
        arrays = {"prototypes": held} if isinstance(held, np.ndarray) else dict(held)
        return {name: torch.as_tensor(array) for name, array in arrays.items()}
    if kind in (".pt", ".pth"):
        held = torch.load(path, map_location="cpu", weights_only=True)
        held = {"prototypes": held} if isinstance(held, Tensor) else dict(held)
        if all(isinstance(value, Tensor) for value in held.values()):
            return held
        raise ValueError("it holds more than tensors")
    raise UsageError(f"model.prototypes={path!r}: {kind or 'no extension'}; {FIX}")
