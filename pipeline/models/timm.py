"""Models of timm, by name, hub repository or local folder."""

import logging
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

from pipeline import UsageError
from pipeline.models import PREPROCESSING, Model, Output
from pipeline.models.loading import check_classes, check_settings, ready
from pipeline.models.once import one_at_a_time
from pipeline.models.weights import fit_weights, hash_weights, read_weights, reason

logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # a line for every retry


@dataclass(frozen=True, kw_only=True)
class TimmModel:
    """How to obtain a model: anything that `timm.create_model` knows.

    `name`: a timm name, hf-hub:<org>/<name> or local-dir:<path>.
    `weights`: `hub` (those that belong to the name), `package:<name>` (a package that ships them),
    `random` (seeded; for trials) or the path of a .safetensors, .pt or .pth file.
    `match`: `name`, or `order` for weights that name the same tensors differently.
    `label` overrides the name in rows and figures: resnet18.a1_in1k for weights that timm or a
    package releases, resnet18@<start of the weights' hash> for all others.
    `kwargs` go to `timm.create_model`; `preprocessing` overrides timm's data config; `output`:
    `softmax`, `sigmoid` (labels that do not exclude each other) or `scalar` (one number).
    """

    name: str
    weights: str = "hub"
    match: str = "name"
    label: str | None = None
    cam_layer: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    output: Output = "softmax"

    def __post_init__(self):
        check_settings(match=self.match, preprocessing=self.preprocessing, output=self.output)
        check_classes(self.kwargs.get("num_classes"), self.output)

    def load(
        self,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        plugins: Collection[str] = (),
    ) -> Model:
        """Build the module, fit the weights, make it ready; `plugins` may ship weights.

        Raises UsageError for an unknown model or weights that do not fit.
        """
        module = network(
            self.name, self.weights, match=self.match, kwargs=self.kwargs, plugins=plugins
        )
        check_classes(getattr(module, "num_classes", None), self.output)
        digest = hash_weights(module)
        return ready(
            module,
            name=self.label or self._true_name(module, digest),
            weights_hash=digest,
            preprocessing=preprocessing(module) | dict(self.preprocessing),
            device=device,
            precision=precision,
            cam_layer=self.cam_layer,
            output=self.output,
        )

    def _true_name(self, module: Any, digest: str) -> str:
        """Whose weights these are; by their hash, where the words alone could mean others."""
        source, _, path = self.name.rpartition(":")
        name = module.pretrained_cfg["architecture"]
        if source.startswith("hf") and self.weights == "hub":
            name = path.partition("@")[0]  # a repository's branch moves
        elif not source and self.weights == "hub":
            name = ".".join(filter(None, (name, module.pretrained_cfg["tag"])))
            if not self.kwargs:
                return name
        elif self.weights.startswith("package:"):
            return name
        return f"{name}@{digest[:8]}"


def network(
    name: str,
    weights: str,
    *,
    match: str,
    kwargs: Mapping[str, Any],
    plugins: Collection[str] = (),
) -> nn.Module:
    """timm's module with its weights: see `TimmModel`. Raises UsageError as `TimmModel.load`."""
    module = _created(name, weights, kwargs)
    if weights not in ("hub", "random"):
        state = read_weights(weights, plugins)
        fit_weights(module, state, match=match, source=weights)
    return module


def preprocessing(module: nn.Module) -> dict[str, Any]:
    """How timm prepares images for a module of its own."""
    config = resolve_model_data_config(module)
    return {key: config[key] for key in PREPROCESSING}


def _created(name: str, weights: str, kwargs: Mapping[str, Any]) -> nn.Module:
    if ":" not in name and not timm.is_model(name.partition(".")[0]):
        close = get_close_matches(name, timm.list_models(), 3, 0.4)
        raise UsageError(
            f"model.name={name!r}: timm knows no such model; close: {', '.join(close)} "
            "(or hf-hub:<org>/<name>, local-dir:<path>)"
        )
    hub = weights == "hub"
    try:
        fetching = one_at_a_time() if hub else nullcontext()
        with fetching, torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return timm.create_model(name, pretrained=hub, **dict(kwargs))
    except TypeError as error:
        raise UsageError(f"model.kwargs do not fit {name}: {reason(error)}") from None
    except Exception as error:
        instead = "; if it cannot be downloaded, give model.weights=<file>" if hub else ""
        raise UsageError(
            f"model.name={name!r}, model.weights={weights}: {reason(error)}{instead}"
        ) from None
