"""Corruption: hidden pixels show the same image corrupted as a whole, as in ImageNet-C.

Hendrycks and Dietterich 2019 (arXiv:1903.12261); deletion by it is MoXI's Figure 6 (severity 5).
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from pipeline import UsageError
from pipeline.masking.pixels import PixelMasking
from pipeline.models import Model

PACKAGE = "imagecorruptions-imaug"
OWN_SEED = ("impulse_noise", "glass_blur")  # these do not read numpy's global state
KINDS = (
    "gaussian_noise",
    "shot_noise",
    *OWN_SEED,
    "defocus_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)


@dataclass(frozen=True, kw_only=True)
class Corruption(PixelMasking):
    """`kind`: one of KINDS; `severity`: 1 to 5.

    What is random depends on `seed` and the image's pixels alone: an image is always corrupted
    alike, and two images differently. Unlike the published ImageNet-C files, not compressed again.
    """

    kind: str
    severity: int = 5
    seed: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise UsageError(f"masking.kind={self.kind!r}: use one of {', '.join(KINDS)}")
        if self.severity not in range(1, 6):
            raise UsageError(f"masking.severity={self.severity}: use 1, 2, 3, 4 or 5")

    def fill(self, model: Model, image_CHW: Tensor) -> Tensor:
        """The whole image corrupted in 8-bit RGB at the model's input size (C, H, W), float32.

        Raises UsageError where the package that knows the corruptions cannot be imported.
        """
        black, white = (model.normalise(grey) for grey in (0.0, 1.0))
        raw_CHW = (image_CHW.cpu().float() - black) / (white - black)
        pixels_HWC = (raw_CHW * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        raw_HWC = torch.tensor(self._corrupt(np.ascontiguousarray(pixels_HWC))) / 255
        fill_CHW = black + raw_HWC.permute(2, 0, 1) * (white - black)
        return fill_CHW.to(image_CHW.device)

    def _corrupt(self, pixels_HWC: np.ndarray) -> np.ndarray:
        try:
            from imagecorruptions import corrupt
        except ImportError as error:
            raise UsageError(
                f"masking.kind={self.kind} cannot import imagecorruptions ({error}): "
                f"pip install {PACKAGE}; if only libGL is missing, install it or replace "
                "opencv-python by opencv-python-headless"
            ) from None
        seed = crc32(pixels_HWC.tobytes(), self.seed)
        own = {"seed": seed} if self.kind in OWN_SEED else {}
        state = np.random.get_state()
        try:
            np.random.seed(seed)
            return corrupt(pixels_HWC, severity=self.severity, corruption_name=self.kind, **own)
        finally:
            np.random.set_state(state)
