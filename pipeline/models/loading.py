"""A network with its weights -> a Model: frozen, tried, folded, on its device, whoever made it."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import UsageError
from pipeline.models import OUTPUTS, PRECISIONS, PREPROCESSING, Model, Output
from pipeline.models.folding import fold_batch_norms
from pipeline.models.fusion import fuse_activations
from pipeline.models.head import example, forward
from pipeline.models.weights import reason


def check_settings(*, match: str, preprocessing: Collection[str], output: str = "softmax") -> None:
    """Raise UsageError for what no model can be made with."""
    if output not in OUTPUTS:
        raise UsageError(f"model.output={output!r}: use one of {', '.join(OUTPUTS)}")
    if match not in ("name", "order"):
        raise UsageError(f"model.match={match!r}: use 'name' or 'order'")
    if unknown := set(preprocessing) - set(PREPROCESSING):
        raise UsageError(
            f"model.preprocessing: unknown {sorted(unknown)}; known are {list(PREPROCESSING)}"
        )


def check_classes(count: Any, output: str = "softmax") -> None:
    """Raise UsageError for fewer than two classes, and for any number but 1 of a scalar output;
    None leaves the number to the model."""
    if output == "scalar":
        if count not in (None, 1):
            raise UsageError(f"model.output=scalar: the model has {count} outputs, not one")
        return
    if count is not None and (not isinstance(count, int) or count < 2):
        raise UsageError(
            f"model.kwargs.num_classes={count!r}: log-odds need two classes; give 2 or more"
        )


def ready(
    module: nn.Module,
    *,
    name: str,
    weights_hash: str,
    preprocessing: dict[str, Any],
    device: torch.device | str,
    precision: str,
    cam_layer: str | None = None,
    output: Output = "softmax",
) -> Model:
    """Freeze, try on one random image, fold and fuse, move to `device`, find the features.

    `precision`: one of PRECISIONS; `tf32` is a switch of the whole process. Raises UsageError for a
    network that cannot read its input or gives no finite logits, or not as many as `output` says,
    and for a missing `cam_layer`.
    """
    module = module.eval().requires_grad_(False)
    if cam_layer and cam_layer not in dict(module.named_modules()):
        close = get_close_matches(cam_layer, [n for n, _ in module.named_modules()], 3, 0.3)
        raise UsageError(f"model.cam_layer={cam_layer!r}: no such layer; close: {close}")
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    x_BCHW = example(preprocessing["input_size"])
    logits_BK = tried(module, x_BCHW, 1 if output == "scalar" else 2)
    check_classes(logits_BK.shape[1], output)
    folded = fold_batch_norms(module, x_BCHW, logits_BK)
    if torch.device(device).type == "cpu":
        folded = fuse_activations(folded, x_BCHW, logits_BK)
    memory = torch.channels_last if _suits_channels_last(module) else torch.contiguous_format
    model = Model(
        module=folded.to(device=device, dtype=PRECISIONS[precision]).to(memory_format=memory),  # type: ignore[call-overload]
        preprocessing=preprocessing,
        device=torch.device(device),
        name=name,
        weights_hash=weights_hash,
        cam_layer=cam_layer,
        output=output,
        verified=precision == "verified",
    )
    _ = model.has_features  # found out now, not under the first image
    return model


def tried(module: nn.Module, x_BCHW: Tensor, least: int = 2) -> Tensor:
    """Logits (B, K), K >= `least`. Raises UsageError for a module that cannot read images, or gives
    no logits."""
    try:
        logits_BK = forward(module, x_BCHW, least)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"the model cannot read an image of {tuple(x_BCHW.shape[1:])}: {reason(error)}; check "
            "model.preprocessing.input_size and model.kwargs"
        ) from None
    if not logits_BK.isfinite().all():
        raise UsageError("the model's logits are not finite: model.weights holds NaN or infinity")
    return logits_BK


def _suits_channels_last(module: nn.Module) -> bool:
    """Whether convolutions prevail, and none of three dimensions, which has no such format."""
    flat, solid, linear = (
        sum(isinstance(m, kind) for m in module.modules())
        for kind in (nn.Conv2d, nn.Conv3d, nn.Linear)
    )
    return flat > linear and not solid
