"""What callers have, a model in some form and images in some form, as the pipeline's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from pipeline import UsageError
from pipeline.api.presets import preset
from pipeline.models import Model
from pipeline.models.timm import TimmModel

Images = Image.Image | Tensor | Sequence[Image.Image]


def load(
    model: str | nn.Module | Model, images: Images, given: Callable[[Image.Image], Tensor] | None
) -> Model:
    """A model of ours: by name (of conf/model, or timm's), or any classifier module.

    A module is put into eval mode; its input size, mean and std come from its timm configuration,
    from the `transform` that is `given` with it, or from the images where these are tensors.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, str):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        known = preset("model", model)
        return (TimmModel(name=model) if known is None else known).load(device)
    return Model(
        module=model.eval(),
        preprocessing=_preprocessing(model, images, given),
        device=next(model.parameters()).device,
        name=type(model).__name__,
    )


def tensors(
    images: Images, model: Model, given: Callable[[Image.Image], Tensor] | None
) -> list[Tensor]:
    """Normalised images (C, H, W) on the host; tensors are taken to be normalised already."""
    if isinstance(images, Tensor):
        images_BCHW = images if images.ndim == 4 else images[None]
        if tuple(images_BCHW.shape[1:]) != tuple(model.preprocessing["input_size"]):
            raise UsageError(
                f"images: a tensor of shape {tuple(images.shape)} does not fit the model's input "
                f"{tuple(model.preprocessing['input_size'])}"
            )
        return [image.detach().cpu().float() for image in images_BCHW]
    several = [images] if isinstance(images, Image.Image) else list(images)
    return [(given or model.transform)(image.convert("RGB")) for image in several]


def targets(target: Any, count: int) -> list[int | None]:
    """A class for each image, None for its prediction."""
    if target is None or isinstance(target, int):
        return [target] * count
    found = [int(t) for t in target]
    if len(found) != count:
        raise UsageError(f"target: {len(found)} classes for {count} images; give one each, or one")
    return list(found)


def _preprocessing(
    module: nn.Module, images: Images, given: Callable[[Image.Image], Tensor] | None
) -> dict[str, Any]:
    if given is None and isinstance(getattr(module, "pretrained_cfg", None), Mapping):
        return dict(resolve_model_data_config(module))
    if isinstance(images, Tensor):
        size = tuple(images.shape[-3:])
    elif given is not None:
        size = tuple(given(Image.fromarray(np.zeros((256, 256, 3), np.uint8))).shape)
    else:
        raise UsageError("model: a plain module needs transform=<PIL image to normalised tensor>")
    # a pipeline of torchvision's says what it normalises by; black and pictures depend on it
    steps = getattr(given, "transforms", [])
    normalise = next((step for step in steps if hasattr(step, "mean")), None)
    mean = [0.0] * size[0] if normalise is None else [float(x) for x in normalise.mean]
    std = [1.0] * size[0] if normalise is None else [float(x) for x in normalise.std]
    return {"input_size": size, "mean": mean, "std": std}
