"""Train the Set-Sum classifier: cross-entropy on composites drawn anew at each step."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from pipeline import UsageError
from pipeline.experiments.setsum.digits import CLASSES, TILES, Digits, set_sum
from pipeline.experiments.setsum.model import network, normalised
from pipeline.rows import Storage

SECONDS_PER_LINE = 10.0
WARM_UP = 0.1


@dataclass(frozen=True, kw_only=True)
class Training:
    """AdamW, a linear warm-up and a cosine.

    `softness`: the target of set-sum s is p_k ~ exp(-|k - s| / softness), so that a nearer sum has
    higher log-odds and the game of partial composites is, up to its scale, Set-Sum itself; with 0,
    the plain label, the log-odds of sums that the model rules out are noise to a search.
    `blanking`: also drop random tiles, the label then being the set-sum of those that remain, so
    that the model knows partial composites; without it, it sees whole ones only.
    """

    steps: int = 3500
    batch: int = 128
    rate: float = 1e-3
    weight_decay: float = 0.05
    softness: float = 1.0
    blanking: bool = True
    seed: int = 0

    def __post_init__(self):
        if self.steps < 1 or self.batch < 1 or self.rate <= 0 or self.softness < 0:
            raise UsageError("training: steps, batch, rate must be positive, softness at least 0")

    def fit(self, vit: VisionTransformer, digits: Digits) -> list[float]:
        """Train in place; returns the loss of each step.

        One thread: the kernels are too small to gain from more, which wait for each other on busy
        cores, and the sums then do not depend on the number of cores.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._fit(vit, digits)
        finally:
            torch.set_num_threads(threads)

    def _fit(self, vit: VisionTransformer, digits: Digits) -> list[float]:
        optimiser = torch.optim.AdamW(
            vit.parameters(), lr=self.rate, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.rate, total_steps=self.steps + 1, pct_start=WARM_UP
        )
        targets_KK = soft_targets(self.softness)
        rng = np.random.default_rng([self.seed, 1])
        losses: list[float] = []
        vit.train()
        for _ in _told(self.steps, losses):
            images_BHW, digits_B4 = digits.composites(self.batch, rng)
            visible_B4 = self._visible(rng)
            logits_BK = _forward(vit, normalised(torch.from_numpy(images_BHW)), visible_B4)
            loss = cross_entropy(logits_BK, targets_KK[set_sum(digits_B4, visible_B4)])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vit.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        vit.eval()
        return losses

    def _visible(self, rng: np.random.Generator) -> np.ndarray:
        """Which tiles the step's composites show, (B, 4); as many in each, so that they batch."""
        count = int(rng.integers(1, TILES + 1)) if self.blanking else TILES
        order_B4 = rng.random((self.batch, TILES)).argsort(1)
        return order_B4 < count


def soft_targets(softness: float) -> Tensor:
    """Row s is the target distribution of set-sum s, (K, K): see `Training`."""
    if not softness:
        return torch.eye(CLASSES)
    sums_K = torch.arange(CLASSES)
    return (-(sums_K[:, None] - sums_K).abs() / softness).softmax(1)


def checkpoint(
    path: Path, training: Training, digits: Digits, *, width: int, depth: int, test_share: float
) -> VisionTransformer:
    """The classifier that these settings make, trained unless `path` holds it already.

    Raises UsageError where `path` holds one that was made otherwise.
    """
    made = {"width": width, "depth": depth, "test_share": test_share} | asdict(training)
    recorded = json.dumps(made, sort_keys=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        vit = network(width=width, depth=depth)
    if path.exists():
        with safe_open(path, "pt") as file:
            known = (file.metadata() or {}).get("training")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if known != recorded:
            raise UsageError(
                f"{path} was trained with {known}, not {recorded}; give those settings or "
                "a new out="
            )
        vit.load_state_dict(state)
        print(f"{path} is there")
        return vit.eval()
    started = time.monotonic()
    training.fit(vit, digits)
    content = safetensors.torch.save(vit.state_dict(), metadata={"training": recorded})
    Storage(str(path.parent)).write(str(path), content)
    print(f"{path}: {training.steps} steps in {time.monotonic() - started:.0f} s")
    return vit


def accuracy(vit: VisionTransformer, images_nHW: np.ndarray, labels_n: np.ndarray) -> float:
    """Share of whole composites whose prediction is the label."""
    with torch.inference_mode():
        parts = torch.from_numpy(images_nHW).split(1024)
        prediction_n = torch.cat([vit(normalised(part)).argmax(1) for part in parts])
    return float((prediction_n.numpy() == labels_n).mean())


def _forward(vit: VisionTransformer, x_BCHW: Tensor, visible_B4: np.ndarray) -> Tensor:
    """Logits with the hidden tiles' tokens dropped; every row shows as many tiles."""
    tokens_BLD = vit._pos_embed(vit.patch_embed(x_BCHW))
    kept_BL = torch.from_numpy(visible_B4).nonzero()[:, 1].view(len(x_BCHW), -1) + 1
    kept_BL = torch.cat([torch.zeros(len(x_BCHW), 1, dtype=torch.int64), kept_BL], 1)
    rows_B1 = torch.arange(len(x_BCHW))[:, None]
    return vit.forward_head(vit.norm(vit.blocks(tokens_BLD[rows_B1, kept_BL])))


def _told(steps: int, losses: list[float]) -> Iterator[int]:
    """Count steps on a bar, or where there is no terminal in a line now and then."""
    bar = tqdm(range(steps), unit="step", dynamic_ncols=True, disable=not sys.stderr.isatty())
    told = time.monotonic()
    for step in bar:
        yield step
        last = step == steps - 1
        if not bar.disable:
            bar.set_description(f"loss {losses[-1]:.3f}", refresh=False)
        elif last or time.monotonic() - told > SECONDS_PER_LINE:
            told = time.monotonic()
            print(f"step {step + 1}/{steps}, loss {losses[-1]:.3f}", file=sys.stderr, flush=True)
