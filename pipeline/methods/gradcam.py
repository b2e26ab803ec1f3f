"""Grad-CAM (Selvaraju et al., ICCV 2017), by torchcam.

relu(sum_k w_k A_k): the last feature map A, each channel weighted by the mean gradient w_k of the
target's logit. On a Vision Transformer A is the patch tokens on their grid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn.functional import interpolate
from torchcam.methods import GradCAM
from torchcam.methods.core import _CAM

from pipeline.game import OBJECTIVES, Game
from pipeline.methods import Coroutine
from pipeline.methods.heatmaps import HeatRequest, by_heat, gradient_heat
from pipeline.models import Model

FACTORS = (0.9, 1.0, 1.1)


@dataclass(frozen=True, kw_only=True)
class GradCam:
    """The layer is the model's `feature_layer`. Both options are pytorch-grad-cam's.

    `eigen_smooth`: the first principal component of the weighted activations instead of their sum.
    `aug_smooth`: the mean map of six inputs, each flip times each of FACTORS, in normalised values.
    """

    eigen_smooth: bool = False
    aug_smooth: bool = False

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def most_forwards(self, n_players: int) -> int:
        """Forwards, each with one backward."""
        return 2 * len(FACTORS) if self.aug_smooth else 1

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        return (yield from by_heat(self, game))

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Batched with other images."""
        return (yield from gradient_heat(self, image_CHW, target))

    def heatmaps(self, model: Model, images_BCHW: Tensor, targets: list[int]) -> Tensor:
        """Maps (B, H, W), bilinear from the layer's resolution, 0 to 1."""
        if not self.aug_smooth:
            return self._maps(model, images_BCHW, targets)
        maps_BHW = torch.zeros((), device=images_BCHW.device)
        for factor in FACTORS:
            scaled_BCHW = images_BCHW * factor
            maps_BHW = maps_BHW + self._maps(model, scaled_BCHW, targets)
            maps_BHW = maps_BHW + self._maps(model, scaled_BCHW.flip(-1), targets).flip(-1)
        return maps_BHW / (2 * len(FACTORS))

    def _maps(self, model: Model, images_BCHW: Tensor, targets: list[int]) -> Tensor:
        with hooked(GradCAM, model) as cam:
            (maps_Bhw,) = cam(targets, differentiable_logits(model, images_BCHW))
            if self.eigen_smooth:
                activations_BDhw = cast(Tensor, cam.hook_a[0])
                weights_BD11 = cast(Tensor, cam.hook_g[0]).mean((2, 3), keepdim=True)
                maps_Bhw = first_component((weights_BD11 * activations_BDhw).float())
        return enlarged(model, maps_Bhw)


def hooked(extractor: Callable[..., _CAM], model: Model) -> _CAM:
    """torchcam's extractor on the model's `feature_layer`, to be used within `with`."""
    return extractor(model.module, model.feature_layer, reshape_transform=_reshape_transform(model))


@torch.enable_grad()
def differentiable_logits(model: Model, images_BCHW: Tensor) -> Tensor:
    """Logits (B, K) with their graph, which starts at the input: weights are frozen."""
    return model.module(images_BCHW.detach().requires_grad_(True))


@torch.inference_mode()
def feature_maps(model: Model, images_BCHW: Tensor) -> Tensor:
    """What the `feature_layer` gives (B, D, h, w), tokens on their grid."""
    with hooked(GradCAM, model) as cam:
        model.module(images_BCHW)
        return cast(Tensor, cam.hook_a[0])


def enlarged(model: Model, maps_Bhw: Tensor) -> Tensor:
    """Maps (B, H, W) of a layer's, bilinear."""
    maps_B1hw = maps_Bhw[:, None].float()
    maps_B1HW = interpolate(maps_B1hw, model.input_hw, mode="bilinear", align_corners=False)
    return maps_B1HW[:, 0].detach()


def first_component(weighted_BDhw: Tensor) -> Tensor:
    """Maps (B, h, w) of the first principal component over positions, rectified, 0 to 1.

    As in EigenCAM (Muhammad & Yeasin, IJCNN 2020), but centred over positions before, as in
    pytorch-grad-cam; the sign, which is free, is the one that agrees with the plain sum.
    """
    x_BLD = weighted_BDhw.nan_to_num(0, 0, 0).flatten(2).mT
    x_BLD = x_BLD - x_BLD.mean(1, keepdim=True)
    u_BLR, s_BR, _ = torch.linalg.svd(x_BLD, full_matrices=False)
    component_BL = u_BLR[:, :, 0] * s_BR[:, :1]
    agreement_B1 = (component_BL * x_BLD.sum(2)).sum(1, keepdim=True)
    map_BL = torch.where(agreement_B1 < 0, -component_BL, component_BL).relu()
    map_BL = map_BL / map_BL.amax(1, keepdim=True).clamp_min(1e-30)  # centred: the minimum is 0
    return map_BL.unflatten(1, weighted_BDhw.shape[2:])


def _reshape_transform(model: Model) -> Callable[[Tensor], Tensor] | None:
    """Tokens (B, prefix + L, D) of a Vision Transformer to maps (B, D, h, w)."""
    vit: Any = model.module
    if not isinstance(vit, VisionTransformer):
        return None
    grid_hw = vit.patch_embed.dynamic_feat_size(model.input_hw)

    def to_maps(x: Tensor) -> Tensor:
        # a convolution's output (model.cam_layer=patch_embed.proj) is a map already
        return x if x.ndim == 4 else x[:, vit.num_prefix_tokens :].mT.unflatten(2, grid_hw)

    return to_maps
