"""Dual encoders (CLIP and its kin): an image encoder, classified by prototypes from a file."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pipeline import UsageError
from pipeline.models import Model, Output, openclip, timm
from pipeline.models.head import example, split
from pipeline.models.loading import check_settings, ready, tried
from pipeline.models.prototypes import Prototypes, read_prototypes
from pipeline.models.weights import hash_weights


@dataclass(frozen=True, kw_only=True)
class DualEncoder:
    """How to obtain a classifier: logits = scale * f(x) / |f(x)| @ prototypes.T.

    `name`: the encoder f, a timm name, hf-hub:<org>/<name>, local-dir:<path> or open_clip:<model>.
    Its embedding is what it gives: of a CLIP model the projection, of a DINO model the pooled
    features; with `pooled`, what its classifier (or projection), taken off, would have read.
    `prototypes`: a .npy, .npz, .safetensors or .pt file with one float matrix (K, D).
    `scale`: the logit scale, 100 for CLIP; `normalise`: the rows of `prototypes` to unit length.
    `weights`, `match`, `cam_layer`, `kwargs`, `preprocessing`, `output`: as of `TimmModel`; for
    open_clip, `weights` is a pretrained tag, `random` or a file. `label` overrides the name in rows
    and figures, <encoder>@<start of the weights' hash>.
    """

    name: str
    prototypes: str
    scale: float = 100.0
    normalise: bool = True
    pooled: bool = False
    weights: str = "hub"
    match: str = "name"
    label: str | None = None
    cam_layer: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    output: Output = "softmax"

    def __post_init__(self):
        check_settings(match=self.match, preprocessing=self.preprocessing, output=self.output)
        if self.output == "scalar":
            raise UsageError("model.output=scalar: prototypes give two logits or more")
        if not self.scale > 0:
            raise UsageError(f"model.scale={self.scale}: give a positive number, for CLIP 100")

    def load(
        self,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        plugins: Collection[str] = (),
    ) -> Model:
        """Build the encoder, put the prototypes behind it, make it ready.

        Raises UsageError for an unknown encoder, and weights or prototypes that do not fit.
        """
        rows_KD = read_prototypes(self.prototypes)
        encoder, preprocessing = self._encoder(plugins)
        embedding_BD = tried(encoder, example(preprocessing["input_size"]))
        if embedding_BD.shape[1] != rows_KD.shape[1]:
            raise UsageError(
                f"model.prototypes={self.prototypes!r} is {tuple(rows_KD.shape)}, but an embedding "
                f"of {self.name} is (1, {embedding_BD.shape[1]}): make prototypes with this "
                f"encoder and the same model.pooled, now {str(self.pooled).lower()}"
            )
        prototypes = Prototypes(rows_KD, scale=self.scale, normalise=self.normalise)
        model = self._ready(_with(encoder, prototypes), preprocessing, device, precision)
        if not model.has_features:
            raise UsageError(
                f"model.name={self.name!r}: it computes on after its classifier, so that no "
                "prototypes can stand there; choose another encoder"
            )
        return model

    def embedder(
        self,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        plugins: Collection[str] = (),
    ) -> Model:
        """The encoder alone, whose `logits` are the embedding (B, D): to make prototypes with."""
        return self._ready(*self._encoder(plugins), device, precision)

    def _encoder(self, plugins: Collection[str]) -> tuple[nn.Module, dict[str, Any]]:
        maker = openclip if self.name.startswith(openclip.PREFIX) else timm
        encoder = maker.network(
            self.name, self.weights, match=self.match, kwargs=self.kwargs, plugins=plugins
        ).eval()
        preprocessing = maker.preprocessing(encoder) | dict(self.preprocessing)
        return self._bare(encoder, preprocessing) if self.pooled else encoder, preprocessing

    def _bare(self, encoder: nn.Module, preprocessing: dict[str, Any]) -> nn.Module:
        """The encoder without its classifier."""
        x_BCHW = example(preprocessing["input_size"])
        tried(encoder, x_BCHW)
        body = split(encoder, x_BCHW).body
        if body is encoder:
            raise UsageError(
                f"model.pooled=true: {self.name} does not end in one classifier that could be "
                "taken off; give model.pooled=false"
            )
        return body

    def _ready(
        self,
        module: nn.Module,
        preprocessing: dict[str, Any],
        device: torch.device | str,
        precision: str,
    ) -> Model:
        digest = hash_weights(module)
        known: Any = getattr(module, "pretrained_cfg", {})
        encoder = known.get("architecture") or self.name.removeprefix(openclip.PREFIX)
        return ready(
            module,
            name=self.label or f"{encoder}@{digest[:8]}",
            weights_hash=digest,
            preprocessing=preprocessing,
            device=device,
            precision=precision,
            cam_layer=self.cam_layer,
            output=self.output,
        )


def _with(encoder: Any, prototypes: Prototypes) -> nn.Module:
    """Prototypes behind timm's classifier, within the module, which stays of its class (a plain ViT
    can drop tokens); behind the module where there is no such place."""
    place = getattr(encoder, "pretrained_cfg", {}).get("classifier")
    if not isinstance(place, str):
        return nn.Sequential(encoder, prototypes)
    encoder.set_submodule(place, nn.Sequential(encoder.get_submodule(place), prototypes))
    return encoder
