"""Rows of masks: their columns, and those that one optimised mask gives by itself."""

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.methods.undesirable import Masks, Undesirable
from pipeline.rows import Kind
from pipeline.studies.masks.controls import CONTROLS
from pipeline.work import Row

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Blur 1 - M' above which a pixel counts as undesirable, for the column `fractions`."""
THRESHOLD = 0.6

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("dataset", "shard", "key", "model", "method")),
        ("trial", pa.int32()),
        ("fingerprint", pa.string()),
        ("content", pa.string()),
        *((name, pa.int32()) for name in ("label", "prediction", "target", "prediction_after")),
        *((name, pa.int32()) for name in ("label_rank_before", "label_rank_after")),
        ("mask", pa.list_(pa.float16())),
        ("mask_best", pa.list_(pa.float16())),
        *((f"probability_{when}", pa.float64()) for when in ("before", "after", "best")),
        *((f"residual_{when}", pa.float64()) for when in ("before", "after", "best")),
        ("phi", pa.float64()),
        *((f"logit_{when}", pa.float64()) for when in ("before", "after")),
        *((f"others_{when}", pa.float64()) for when in ("before", "after")),
        ("area", pa.float64()),
        ("undesirable", pa.float64()),
        ("undesirable_normalised", pa.float64()),
        ("fractions", pa.list_(pa.float32())),
        *((f"loss_{when}", pa.float64()) for when in ("ones", "after", "best")),
        ("step_best", pa.int32()),
        ("losses", pa.list_(pa.float32())),
        ("improved", pa.bool_()),
        ("converged", pa.bool_()),
        *((f"residual_{name}", pa.float64()) for name in CONTROLS),
        ("greedy_patches", pa.int32()),
        ("evaluations", pa.int64()),
        ("seconds", pa.float64()),
        ("status", pa.string()),
        ("error", pa.string()),
    ]
)
MASKS = Kind("masks", "masks", SCHEMA, "trial", "jobs.undesirable")


def residual(logits_K: Tensor, target: int) -> float:
    """1 - f_k in float64, exact also where f_k rounds to 1."""
    logits_K = logits_K.double()
    others_K = logits_K.index_fill(0, torch.tensor(target), -torch.inf)
    return float((others_K.logsumexp(0) - logits_K.logsumexp(0)).exp())


def phi(before: float, after: float) -> float:
    """Share of the residual that was recovered, in percent (eq. 8)."""
    return 100 * (before - after) / before if before else float("nan")


def facts_of(
    found: Masks, how: Undesirable, label: int | None, target: int, hw: tuple[int, int]
) -> Row:
    """Columns that one optimised mask gives."""
    blurred_HW = 1 - how.enlarge(found.mask_Bcc, hw)[0].double()
    logits = {"before": found.plain_BK[0].double(), "after": found.logits_BK[0].double()}
    losses_T = torch.cat([found.loss_BT[0], found.final_B])
    row: Row = {
        "mask": _half(found.mask_Bcc),
        "mask_best": _half(found.best_Bcc),
        "prediction_after": int(logits["after"].argmax()),
        "area": float(blurred_HW.mean()),
        "undesirable": float((blurred_HW > THRESHOLD).double().mean()),
        "undesirable_normalised": float((_normalised(blurred_HW) > THRESHOLD).double().mean()),
        "fractions": [float((blurred_HW > t).double().mean()) for t in THRESHOLDS],
        "loss_ones": float(found.ones_B[0]),
        "loss_after": float(found.final_B[0]),
        "loss_best": float(found.best_B[0]),
        "step_best": int(found.step_B[0]),
        "losses": losses_T.tolist(),
        "improved": bool(found.final_B[0] < found.ones_B[0]),
        "converged": converged(found.loss_BT[0]),
    }
    for when, logits_K in logits.items():
        left = residual(logits_K, target)
        row[f"residual_{when}"], row[f"probability_{when}"] = left, 1 - left
        row[f"logit_{when}"] = float(logits_K[target])
        row[f"others_{when}"] = float((logits_K.sum() - logits_K[target]) / (len(logits_K) - 1))
        if label is not None and 0 <= label < len(logits_K):
            row[f"label_rank_{when}"] = 1 + int((logits_K > logits_K[label]).sum())
    row["phi"] = phi(row["residual_before"], row["residual_after"])
    return row


def converged(losses_T: Tensor) -> bool:
    """Whether the mean loss of the last tenth of the steps is within 0.01 of the tenth before."""
    tenth = max(1, len(losses_T) // 10)
    before, last = losses_T[-2 * tenth : -tenth], losses_T[-tenth:]
    return len(before) > 0 and bool((last.mean() - before.mean()).abs() <= 0.01)


def _normalised(blurred_HW: Tensor) -> Tensor:
    """Stretched to 0..1, as published pictures are; a constant stays 0."""
    low, high = blurred_HW.min(), blurred_HW.max()
    return (blurred_HW - low) / (high - low).clamp_min(1e-12)


def _half(mask_Bcc: Tensor) -> np.ndarray:
    return mask_Bcc.flatten().half().numpy()
