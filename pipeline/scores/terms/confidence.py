"""Confidence: how sure the model is of whatever it sees of the picked players.

With an evidential head (Sensoy et al., NeurIPS 2018): 1 - K / sum_c (e_c + 1), evidence
e = exp(clamp(scale * z, -10, 10)) of the head's K logits z (SMDL, eq. 4). Without one:
1 - H(p) / log K, the entropy of the model's own softmax.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline import UsageError
from pipeline.scores.terms import Seen


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """`head`: a file of a linear evidential head on the model's features (`jobs.evidential` makes
    one), None for the entropy. `scale`: of its logits; None as the file says, or 1."""

    version: ClassVar[int] = 1
    weight: float = 1.0
    head: str | None = None
    scale: float | None = None

    @property
    def needs(self) -> set[Any]:
        """Outputs of the picked, with entropy or features."""
        return {"shown", "entropy" if self.head is None else "features"}

    @property
    def identity(self) -> dict[str, Any]:
        """A head is what it holds, wherever it lies."""
        if self.head is None:
            return {"weight": self.weight, "head": None}
        head = _read(self.head)
        return {"weight": self.weight, "head": head.digest, "scale": self._scale(head)}

    def __call__(self, seen: Seen) -> Tensor:
        """0, no idea, to 1."""
        assert seen.shown is not None
        if self.head is None:
            assert seen.shown.entropy_C is not None
            if seen.shown.entropy_C.isnan().any():
                raise UsageError(
                    "confidence.head=null: an entropy needs model.output=softmax; give a head"
                )
            return 1 - seen.shown.entropy_C.double() / math.log(seen.shown.n_classes)
        head, features_CD = _read(self.head), seen.shown.features_CD
        assert features_CD is not None
        if features_CD.shape[1] != head.weight_KD.shape[1]:
            raise UsageError(
                f"confidence.head={self.head}: it reads {head.weight_KD.shape[1]} features, the "
                f"model has {features_CD.shape[1]}; train one with jobs.evidential"
            )
        logits_CK = (features_CD.float() @ head.weight_KD.T + head.bias_K).double()
        evidence_CK = (self._scale(head) * logits_CK).clamp(-10, 10).exp()
        return 1 - evidence_CK.shape[1] / (evidence_CK + 1).sum(1)

    def _scale(self, head: "_Head") -> float:
        return head.scale if self.scale is None else self.scale


class _Head(NamedTuple):
    weight_KD: Tensor
    bias_K: Tensor
    scale: float
    digest: str


@lru_cache(maxsize=4)
def _read(path: str) -> _Head:
    """Raises UsageError for a file that holds no head."""
    try:
        with safe_open(path, "pt") as file:
            weight_KD, bias_K = (file.get_tensor(name).float() for name in ("weight", "bias"))
            scale = float((file.metadata() or {}).get("scale", 1))
    except (OSError, SafetensorError, ValueError) as error:
        raise UsageError(
            f"confidence.head={path}: not a safetensors file with weight (K, D) and bias (K,): "
            f"{error}"
        ) from None
    content = torch.cat([weight_KD.flatten(), bias_K]).numpy().tobytes()
    return _Head(weight_KD, bias_K, scale, hashlib.sha256(content).hexdigest()[:16])
