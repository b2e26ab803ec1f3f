"""The Set-Sum classifier: a Vision Transformer whose tokens are tiles, each encoded on its own.

A convolution over the whole composite would mix tiles; here a tile's token depends on that tile
alone, so one player is one token and token drop hides it altogether.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pipeline import UsageError
from pipeline.experiments.setsum.digits import CLASSES, TILE
from pipeline.models import Model
from pipeline.models.loading import ready
from pipeline.models.weights import fit_weights, hash_weights, read_weights

PREPROCESSING: Mapping[str, Any] = {
    "input_size": (3, 2 * TILE, 2 * TILE),
    "interpolation": "bilinear",
    "mean": (0.305,) * 3,  # of scikit-learn's digits
    "std": (0.376,) * 3,
    "crop_pct": 1.0,
    "crop_mode": "center",
}
CHANNELS_PER_HEAD = 32


class TileEncoder(nn.Module):
    """Convolutions over one tile: (B, 3, H, W) -> (B, D, H / 8, W / 8)."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width // 4, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width // 4, width // 2, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 2),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Encode each tile as an image of its own."""
        B, C, H, W = x_BCHW.shape
        rows, columns = H // TILE, W // TILE
        tiles = x_BCHW.reshape(B, C, rows, TILE, columns, TILE).permute(0, 2, 4, 1, 3, 5)
        tokens = self.layers(tiles.reshape(-1, C, TILE, TILE))
        return tokens.reshape(B, rows, columns, -1).permute(0, 3, 1, 2)


class TileEmbed(PatchEmbed):
    """timm's patch embedding with a TileEncoder for its projection."""

    def __init__(self, *, embed_dim: int, **kwargs):
        super().__init__(embed_dim=embed_dim, **kwargs)
        self.proj = TileEncoder(embed_dim)


def network(*, width: int, depth: int) -> VisionTransformer:
    """The module, its weights random. Raises UsageError for a width that heads do not divide."""
    if width < 1 or width % CHANNELS_PER_HEAD or depth < 1:
        raise UsageError(
            f"model.width={width}, model.depth={depth}: width must be a multiple of "
            f"{CHANNELS_PER_HEAD}, depth positive"
        )
    return VisionTransformer(
        img_size=2 * TILE,
        patch_size=TILE,
        num_classes=CLASSES,
        embed_dim=width,
        depth=depth,
        num_heads=width // CHANNELS_PER_HEAD,
        embed_layer=TileEmbed,
    )


def normalised(images_nHW: Tensor) -> Tensor:
    """Grey uint8 images (n, H, W) as the model's input (n, 3, H, W): what `transform` makes."""
    mean, std = (torch.tensor(PREPROCESSING[k])[:, None, None] for k in ("mean", "std"))
    return (images_nHW[:, None].float() / 255 - mean) / std


@dataclass(frozen=True, kw_only=True)
class SetSumModel:
    """How to obtain the classifier: `weights` is the file that `jobs.setsum` wrote.

    `label` overrides its name in rows and figures: setsum@<start of the weights' hash>.
    """

    weights: str
    width: int = 128
    depth: int = 3
    label: str | None = None

    def load(
        self,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        plugins: Collection[str] = (),
    ) -> Model:
        """Build, fit the weights, make ready. Raises UsageError for weights that do not fit."""
        module = network(width=self.width, depth=self.depth)
        state = read_weights(self.weights, plugins)
        fit_weights(module, state, match="name", source=self.weights)
        digest = hash_weights(module)
        return ready(
            module,
            name=self.label or f"setsum@{digest[:8]}",
            weights_hash=digest,
            preprocessing=dict(PREPROCESSING),
            device=device,
            precision=precision,
        )
