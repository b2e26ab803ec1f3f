"""A frozen classifier with its preprocessing, ready to play set games: image, features, logits."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast, get_args

import torch
from PIL import Image
from timm.data import create_transform
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pipeline import UsageError
from pipeline.models.head import Parts, example, split

logging.getLogger("torchcam").setLevel(logging.ERROR)  # it warns of the layer that it chooses

PRECISIONS = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "verified": torch.float32,
}
EMBEDDINGS = ("stem.proj", "patch_embed")
"""Layers that cut an image into tokens: all that a network without convolutions has of maps."""
Output = Literal["softmax", "sigmoid", "scalar"]
OUTPUTS: tuple[Output, ...] = get_args(Output)
"""What logits mean: one class of several; any of several labels, each by itself; one number."""
PREPROCESSING = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A classifier in eval mode, weights frozen, on one device.

    `name` says what it truly is, such as resnet18.a1_in1k; `preprocessing` holds timm's data config
    (input_size, interpolation, mean, std, crop_pct, crop_mode); `cam_layer` names the layer that
    CAM methods read (None: the last feature map, or a ViT's last block); `output`: one of OUTPUTS;
    `verified`: searches may rank in reduced precision what they verify in this one.
    """

    module: nn.Module
    preprocessing: dict[str, Any]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    name: str = ""
    weights_hash: str = ""
    cam_layer: str | None = None
    output: Output = "softmax"
    verified: bool = False

    def encode(self, x_BCHW: Tensor) -> Tensor:
        """Features (B, D), what the classifier reads; the logits where not `has_features`."""
        return self.body(x_BCHW)

    def classify(self, features_BD: Tensor) -> Tensor:
        """Logits (B, K) of features that `encode` gave."""
        return self._parts.head(features_BD)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of normalised images: the module's own."""
        return self.classify(self.encode(x_BCHW))

    def probabilities(self, logits_BK: Tensor) -> Tensor:
        """Of each class (B, K), differentiable. Raises UsageError for a scalar output."""
        if self.output == "scalar":
            raise UsageError(
                "model.output=scalar: the model's output is a number, not a probability; read "
                "logits or log-odds, which hold it"
            )
        return logits_BK.softmax(1) if self.output == "softmax" else logits_BK.sigmoid()

    @property
    def has_features(self) -> bool:
        """Whether the network is features and then one linear classifier."""
        return self.body is not self.module

    @property
    def body(self) -> nn.Module:
        """The network without its classifier: the whole of it where not `has_features`."""
        return self._parts.body

    @cached_property
    def _parts(self) -> Parts:
        """Body and head, tried on one random image; raises UsageError if that gives no logits."""
        x_BCHW = example(self.preprocessing["input_size"]).to(self.device, self.dtype)
        return split(self.module, x_BCHW, 1 if self.output == "scalar" else 2)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return next(self.module.parameters()).dtype

    @property
    def input_hw(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return tuple(self.preprocessing["input_size"][1:])

    @cached_property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """RGB image -> normalised tensor (C, H, W), as the model was evaluated with."""
        return transform(self.preprocessing)

    @cached_property
    def feature_layer(self) -> str:
        """Name of the layer that CAM methods read: `cam_layer`, or else the last feature map.

        On a Vision Transformer, the first layer norm of the last block (as MoXI's authors set it).
        """
        from torchcam.methods import GradCAM

        if not self.cam_layer and isinstance(self.module, VisionTransformer):
            layer = f"blocks.{len(self.module.blocks) - 1}.norm1"
            if layer in dict(self.module.named_modules()):
                return layer
            raise UsageError(f"the model has no {layer} for CAM methods; set model.cam_layer")
        size = tuple(self.preprocessing["input_size"])
        try:
            with GradCAM(self.module, self.cam_layer or None, input_shape=size) as cam:
                layer = cam.target_names[0]
            if not self.cam_layer and layer.startswith(EMBEDDINGS):
                raise ValueError(f"{layer} is no feature map but the pixels themselves")
            return layer
        except ValueError:
            raise UsageError(
                "the model has no convolutional feature map for CAM methods; set model.cam_layer"
            ) from None

    def normalise(self, colour: float) -> Tensor:
        """A grey level of 0..1 in raw pixels as a normalised colour, shape (C, 1, 1), on the CPU.

        Made on the device it would wait for all that runs there.
        """
        mean, std = (torch.tensor(self.preprocessing[k])[:, None, None] for k in ("mean", "std"))
        return (colour - mean) / std


def transform(preprocessing: Mapping[str, Any]) -> Callable[[Image.Image], Tensor]:
    """RGB image -> normalised tensor (C, H, W), as timm evaluates with this data config."""
    return cast(Callable, create_transform(**preprocessing, is_training=False))
