"""Evidential heads: how sure a frozen network's features are (Sensoy et al., NeurIPS 2018).

Logits z of a linear layer become evidence e = exp(clamp(a z, -10, 10)) of K classes, the parameters
alpha = e + 1 of a Dirichlet distribution of class probabilities. Its strength S = sum(alpha) gives
the uncertainty u = K / S, 1 where there is no evidence, and the confidence 1 - u.
"""

from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pipeline import UsageError

MOST = 10.0
"""Largest exponent of evidence, either way."""
FLAT = 1e-6
"""Features that vary less on the training images are left out."""


@dataclass(frozen=True)
class Head:
    """weight (K, D) and bias (K,) on features as the network gives them; `scale` is a."""

    weight_KD: Tensor
    bias_K: Tensor
    scale: float

    def alpha(self, features_BD: Tensor) -> Tensor:
        """Parameters of the Dirichlet distributions, (B, K), each above 1."""
        return alpha(features_BD @ self.weight_KD.T + self.bias_K, self.scale)

    def to_bytes(self, weights_hash: str) -> bytes:
        """A safetensors file; `weights_hash` says to which network's features it belongs."""
        tensors = {"weight": self.weight_KD.contiguous(), "bias": self.bias_K.contiguous()}
        metadata = {"scale": f"{self.scale!r}", "classes": f"{len(self.bias_K)}"}
        return safetensors.torch.save(tensors, metadata | {"weights_hash": weights_hash})


def alpha(logits_BK: Tensor, scale: float) -> Tensor:
    """Parameters of Dirichlet distributions, (B, K)."""
    return (scale * logits_BK).clamp(-MOST, MOST).exp() + 1


def uncertainty(alpha_BK: Tensor) -> Tensor:
    """u = K / S of each row, 0 to 1."""
    return alpha_BK.shape[1] / alpha_BK.sum(1)


def squared_error(alpha_BK: Tensor, target_BK: Tensor) -> Tensor:
    """Expected squared error of each row (Eq. 5): (y - p)^2 + p (1 - p) / (S + 1), summed."""
    strength_B1 = alpha_BK.sum(1, keepdim=True)
    p_BK = alpha_BK / strength_B1
    return ((target_BK - p_BK) ** 2 + p_BK * (1 - p_BK) / (strength_B1 + 1)).sum(1)


def divergence(alpha_BK: Tensor, target_BK: Tensor) -> Tensor:
    """KL of each row from the uniform distribution, evidence of the true class removed:
    alpha~ = y + (1 - y) alpha."""
    alpha_BK = target_BK + (1 - target_BK) * alpha_BK
    strength_B1 = alpha_BK.sum(1, keepdim=True)
    classes = torch.tensor(float(alpha_BK.shape[1]), device=alpha_BK.device)
    log_ratio_B = strength_B1[:, 0].lgamma() - alpha_BK.lgamma().sum(1) - classes.lgamma()
    slope_BK = alpha_BK.digamma() - strength_B1.digamma()
    return log_ratio_B + ((alpha_BK - 1) * slope_BK).sum(1)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Adam on features that were computed once.

    `scale`: a, 5 in SMDL-Attribution's code for faces, 1 for birds. `annealing`: epochs in which
    the weight of the KL term grows from 0 to 1.
    """

    epochs: int = 50
    batch: int = 256
    rate: float = 1e-2
    scale: float = 1.0
    annealing: int = 10
    seed: int = 0

    def __post_init__(self):
        if min(self.epochs, self.batch, self.annealing) < 1 or min(self.rate, self.scale) <= 0:
            raise UsageError("training: epochs, batch, annealing, rate, scale must be positive")

    def fit(self, features_MD: Tensor, labels_M: Tensor, classes: int) -> tuple[Head, list[float]]:
        """The head, and the mean loss of each epoch, its KL term as weighted then.

        Features are standardised for training; the head that is returned takes them as they are.
        """
        mean_D, std_D = features_MD.mean(0), features_MD.std(0)
        inverse_D = torch.where(std_D > FLAT, 1 / std_D, 0)
        x_MD, target_MK = (features_MD - mean_D) * inverse_D, one_hot(labels_M, classes).float()
        weight_KD = torch.zeros(classes, x_MD.shape[1], requires_grad=True)
        bias_K = torch.zeros(classes, requires_grad=True)
        optimiser = torch.optim.Adam([weight_KD, bias_K], lr=self.rate)
        generator, losses = torch.Generator().manual_seed(self.seed), []
        for epoch in range(self.epochs):
            share, total = min(1.0, epoch / self.annealing), 0.0
            for rows in torch.randperm(len(x_MD), generator=generator).split(self.batch):
                logits_BK = x_MD[rows] @ weight_KD.T + bias_K
                alpha_BK, target_BK = alpha(logits_BK, self.scale), target_MK[rows]
                loss_B = squared_error(alpha_BK, target_BK)
                loss_B = loss_B + share * divergence(alpha_BK, target_BK)
                optimiser.zero_grad()
                loss_B.mean().backward()
                optimiser.step()
                total += float(loss_B.detach().sum())
            losses.append(total / len(x_MD))
        plain_KD, plain_K = weight_KD.detach() * inverse_D, bias_K.detach()
        return Head(plain_KD, plain_K - plain_KD @ mean_D, self.scale), losses


def split(count: int, *, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices to train on and to test on. Raises UsageError where one of both would be empty."""
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    cut = round(held_out * count)
    if not 0 < cut < count:
        raise UsageError(f"held_out={held_out}: of {count} images that leaves none on one side")
    return shuffled[cut:], shuffled[:cut]
