"""Classifiers of torchvision, by name."""

from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models

from pipeline import UsageError
from pipeline.models import Model, Output
from pipeline.models.loading import check_classes, check_settings, ready
from pipeline.models.once import one_at_a_time
from pipeline.models.weights import fit_weights, hash_weights, read_weights, reason


@dataclass(frozen=True, kw_only=True)
class TorchvisionModel:
    """How to obtain a model: any classifier that `torchvision.models.get_model` knows.

    `weights`: `default` or a release's name, such as IMAGENET1K_V2 (downloaded), `package:<name>`,
    `random` (seeded; for trials) or the path of a .safetensors, .pt or .pth file.
    `match`: `name`, or `order` for weights that name the same tensors differently.
    `label` overrides the name in rows and figures: resnet50.IMAGENET1K_V2 for a release,
    resnet50@<start of the weights' hash> for others.
    `kwargs` go to `get_model`; `preprocessing` overrides the release's (the default one's, where
    the weights are no release); `output`: as of `TimmModel`.
    """

    name: str
    weights: str = "default"
    match: str = "name"
    label: str | None = None
    cam_layer: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    output: Output = "softmax"

    def __post_init__(self):
        check_settings(match=self.match, preprocessing=self.preprocessing, output=self.output)
        check_classes(self.kwargs.get("num_classes"), self.output)
        if self.name not in (known := list_models(module=torchvision.models)):
            close = ", ".join(get_close_matches(self.name, known, 3, 0.4))
            raise UsageError(
                f"model.name={self.name!r}: torchvision has no such classifier; close: {close}"
            )

    def load(
        self,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        plugins: Collection[str] = (),
    ) -> Model:
        """Build the module, fit the weights, make it ready; `plugins` may ship weights.

        Raises UsageError for weights that do not fit or cannot be downloaded.
        """
        releases: Any = get_model_weights(self.name)
        release = releases.DEFAULT if self.weights == "default" else None
        release = releases.__members__.get(self.weights, release)
        module = self._create(release)
        if not release and self.weights != "random":
            state = read_weights(self.weights, plugins)
            fit_weights(module, state, match=self.match, source=self.weights)
        digest = hash_weights(module)
        name = f"{self.name}.{release.name}" if release else self.name
        fixed = (release and not self.kwargs) or self.weights.startswith("package:")
        return ready(
            module,
            name=self.label or (name if fixed else f"{name}@{digest[:8]}"),
            weights_hash=digest,
            preprocessing=_preprocessing(release or releases.DEFAULT) | dict(self.preprocessing),
            device=device,
            precision=precision,
            cam_layer=self.cam_layer,
            output=self.output,
        )

    def _create(self, release: WeightsEnum | None) -> nn.Module:
        try:
            with one_at_a_time() if release else nullcontext(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return get_model(self.name, weights=release, **dict(self.kwargs))
        except (TypeError, ValueError) as error:
            raise UsageError(f"model.kwargs do not fit {self.name}: {reason(error)}") from None
        except (OSError, RuntimeError) as error:
            raise UsageError(
                f"model.name={self.name!r}, model.weights={self.weights}: {reason(error)}; if it "
                "cannot be downloaded, give model.weights=<file>"
            ) from None


def _preprocessing(release: WeightsEnum) -> dict[str, Any]:
    """Resizing, cropping and normalising of a release in timm's words."""
    preset: Any = release.transforms()
    (crop,), (resize,) = preset.crop_size, preset.resize_size
    return {
        "input_size": (3, crop, crop),
        "interpolation": preset.interpolation.value,
        "mean": tuple(preset.mean),
        "std": tuple(preset.std),
        "crop_pct": crop / resize,
        "crop_mode": "center",
    }
