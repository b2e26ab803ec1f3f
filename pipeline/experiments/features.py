"""Features of a labelled data set, each computed once: what is learnt of a frozen encoder."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.data import SampleRef
from pipeline.data.shards import Shards
from pipeline.models import Model
from pipeline.work import read_image

BATCH = 64


class Labelled(NamedTuple):
    """Features (M, D), float32, and class indices (M,), int64, on the CPU; how many samples were
    left out, which could not be read or have no label."""

    features_MD: Tensor
    labels_M: Tensor
    left_out: int


def labelled(model: Model, data: Shards, encode: Callable[[Tensor], Tensor]) -> Labelled:
    """What `encode` makes of normalised images (B, C, H, W) on the model's device.

    Raises UsageError where no image has a label.
    """

    def read(ref: SampleRef) -> tuple[int, Tensor] | None:
        try:
            sample, image_CHW = read_image(model, data, ref)
        except ValueError:
            return None
        known = sample.label is not None and sample.label >= 0
        return (sample.label, image_CHW) if known else None  # type: ignore[return-value]

    refs = list(data.index())
    features, labels = [], []
    with ThreadPoolExecutor() as pool, torch.inference_mode():
        for start in range(0, len(refs), BATCH):
            read_in = [one for one in pool.map(read, refs[start : start + BATCH]) if one]
            if read_in:
                x_BCHW = torch.stack([image_CHW for _, image_CHW in read_in])
                features.append(encode(x_BCHW.to(model.device, model.dtype)).float().cpu())
                labels += [label for label, _ in read_in]
    if not labels:
        raise UsageError(f"dataset: none of its {len(refs)} samples is an image with a label")
    return Labelled(torch.cat(features), torch.tensor(labels), len(refs) - len(labels))
