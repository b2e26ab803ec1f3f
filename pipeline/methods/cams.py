"""Relatives of Grad-CAM, by torchcam's hooks: heat = relu(sum_k w_k A_k), A the last feature map.

They differ in w, where g_k = d z_t / d A_k:
`gradcam_pp`: sum over positions of relu(g) g^2 / (2 g^2 + g^3 sum A), g^2 cancelled (Chattopadhay
et al., WACV 2018, equation 19); `layercam`: relu(g) (Jiang et al., TIP 2021); `xgradcam`: sum of
g A over sum of A (Fu et al., BMVC 2020); `hirescam`: g itself (Draelos & Carin, arXiv:2011.08891).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from torch import Tensor
from torchcam.methods import GradCAM, LayerCAM, XGradCAM

from pipeline import UsageError
from pipeline.game import OBJECTIVES, Game
from pipeline.methods import Coroutine
from pipeline.methods.gradcam import (
    differentiable_logits,
    enlarged,
    feature_maps,
    first_component,
    hooked,
)
from pipeline.methods.heatmaps import HeatRequest, by_heat, gradient_heat
from pipeline.models import Model


class GradCamPlusPlus(GradCAM):
    """torchcam's own leaves the denominator out: it divides a copy (0.5.0)."""

    def _get_weights(self, class_idx: Any, scores: Tensor, **kwargs: Any) -> list[Tensor]:
        self._backprop(scores, class_idx, **kwargs)
        a_BDhw, g_BDhw = (cast(Tensor, hook[0]).double() for hook in (self.hook_a, self.hook_g))
        sum_BD11 = a_BDhw.sum((2, 3), keepdim=True)
        return [(g_BDhw.relu() / (2 + g_BDhw * sum_BD11)).sum((2, 3))]


class HiResCam(GradCAM):
    """Each position is weighted by its own gradient."""

    def _get_weights(self, class_idx: Any, scores: Tensor, **kwargs: Any) -> list[Tensor]:
        self._backprop(scores, class_idx, **kwargs)
        return [cast(Tensor, self.hook_g[0])]


KINDS = {
    "gradcam_pp": GradCamPlusPlus,
    "layercam": LayerCAM,
    "xgradcam": XGradCAM,
    "hirescam": HiResCam,
}


@dataclass(frozen=True, kw_only=True)
class Cam:
    """`kind`: one of KINDS. The layer is the model's `feature_layer`."""

    kind: Literal["gradcam_pp", "layercam", "xgradcam", "hirescam"]

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def __post_init__(self):
        if self.kind not in KINDS:
            raise UsageError(f"cam.kind={self.kind!r}: use one of {', '.join(KINDS)}")

    def most_forwards(self, n_players: int) -> int:
        """One, with a backward."""
        return 1

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        return (yield from by_heat(self, game))

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Batched with other images."""
        return (yield from gradient_heat(self, image_CHW, target))

    def heatmaps(self, model: Model, images_BCHW: Tensor, targets: list[int]) -> Tensor:
        """Maps (B, H, W), bilinear from the layer's resolution, 0 to 1."""
        with hooked(KINDS[self.kind], model) as cam:
            (maps_Bhw,) = cam(targets, differentiable_logits(model, images_BCHW))
        return enlarged(model, maps_Bhw)


@dataclass(frozen=True, kw_only=True)
class EigenCam:
    """The feature map's first principal component (Muhammad & Yeasin, IJCNN 2020), whatever the
    target: see `first_component`."""

    version: ClassVar[int] = 1
    searches = False
    objectives = OBJECTIVES

    def most_forwards(self, n_players: int) -> int:
        """One."""
        return 1

    def explain(self, game: Game) -> Coroutine:
        """Players by their mean heat."""
        return (yield from by_heat(self, game))

    def heat(self, image_CHW: Tensor, target: int) -> HeatRequest:
        """Batched with other images."""
        return (yield from gradient_heat(self, image_CHW, target))

    def heatmaps(self, model: Model, images_BCHW: Tensor, targets: list[int]) -> Tensor:
        """Maps (B, H, W), bilinear from the layer's resolution, 0 to 1."""
        return enlarged(model, first_component(feature_maps(model, images_BCHW).float()))
