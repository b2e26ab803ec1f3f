"""Image encoders of open_clip, an optional package, by `open_clip:<model>`."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from pipeline import UsageError
from pipeline.models.once import one_at_a_time
from pipeline.models.weights import fit_weights, read_weights, reason

PREFIX = "open_clip:"
CROP_MODES = {"shortest": "center", "longest": "border", "squash": "squash"}
"""open_clip's words for how an image is fitted, in timm's."""


def network(
    name: str,
    weights: str,
    *,
    match: str,
    kwargs: Mapping[str, Any],
    plugins: Collection[str] = (),
) -> nn.Module:
    """The image tower, whose output is the joint embedding.

    `weights`: a pretrained tag of open_clip (openai, laion2b_s34b_b79k, ...), `random` (seeded), or
    a checkpoint of the whole CLIP model. Raises UsageError for what is not there or does not fit.
    """
    try:
        import open_clip  # type: ignore[reportMissingImports]
    except ImportError:
        raise UsageError(
            f"model.name={name!r} needs open_clip: pip install open_clip_torch, or use timm's name "
            "for the encoder, such as vit_base_patch32_clip_224.openai"
        ) from None
    model = name.removeprefix(PREFIX)
    if model not in (known := open_clip.list_models()):
        close = ", ".join(get_close_matches(model, known, 3, 0.3))
        raise UsageError(f"model.name={name!r}: open_clip knows no such model; close: {close}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if weights == "hub":
        choice = ", ".join(tags) or "none"
        raise UsageError(f"model.weights=hub: name open_clip's pretrained tag; there are {choice}")
    tag = weights if weights in tags else None
    try:
        with one_at_a_time(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            clip: Any = open_clip.create_model(model, tag, load_weights=bool(tag), **dict(kwargs))
    except Exception as error:
        raise UsageError(
            f"model.name={name!r}, model.weights={weights}, model.kwargs: {reason(error)}"
        ) from None
    if not tag and weights != "random":
        fit_weights(clip, read_weights(weights, plugins), match=match, source=weights)
    return clip.visual


def preprocessing(tower: Any) -> dict[str, Any]:
    """How open_clip prepares images, in timm's words."""
    config = tower.preprocess_cfg
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    return {
        "input_size": (3, height, width),
        "interpolation": config["interpolation"],
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "crop_pct": 1.0,
        "crop_mode": CROP_MODES[config["resize_mode"]],
    }
