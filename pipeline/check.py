"""What goes wrong most with a model and a data set, measured on a few images before a run.

Softmax, end points of the maskings, channel order, normalisation, labels, features. Another way of
reading the same pixels is warned of where its gain in log-probability is larger than under all but
one in twenty random choices of each image's sign. On 10 times 16 ImageNet images EfficientNet-Lite0
read in BGR is noticed 7 times, read with ImageNet's mean 7 times, and never doubted read rightly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from timm.data import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from torch import Tensor

from pipeline import UsageError
from pipeline.data import SampleRef
from pipeline.data.shards import Shards
from pipeline.engine import Engine
from pipeline.game.arena import Arena, Turn
from pipeline.identity import name_of
from pipeline.masking import Masking
from pipeline.models import Model
from pipeline.players import View
from pipeline.report.text import ruled
from pipeline.work import read_image

UNIFORM = 0.95
"""Mean entropy of the softmax, as a share of log K, from which on it hardly prefers any class."""
SATURATED = 0.99
"""Mean probability of the prediction from which on most images have all of it."""
KEPT = 0.25
"""Share of the prediction's probability above chance that may be left with everything hidden."""
DRAWS, TIE = 10_000, 1e-4
"""Random signs drawn; mean gains closer than that are equal."""
LEVEL = 0.05
"""Share of random signs whose mean gain may reach the one found."""
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""
NORMALISATIONS: dict[str, Normalisation] = {
    "mean 0.5, std 0.5": (IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD),
    "ImageNet's": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "CLIP's": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    "none, 0 to 1": ((0.0,) * 3, (1.0,) * 3),
}


@dataclass(kw_only=True)
class Report:
    """`facts`: name and what was found; `tables`: of texts; `warnings`: one line each."""

    facts: dict[str, str] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Facts, tables, warnings."""
        wide = max(map(len, self.facts))
        facts = "\n".join(f"{name.ljust(wide)}  {found}" for name, found in self.facts.items())
        warnings = "\n".join(f"warning: {said}" for said in self.warnings)
        return "\n\n".join([facts, *self.tables, warnings or "no warnings"])


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The images of a check: normalised, on the host, and their labels, -1 where there is none."""

    model: Model
    x_BCHW: Tensor
    labels_B: Tensor

    def logits(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K), float32, on the host; one image at a time, whatever its size."""
        with torch.inference_mode():
            rows = x_BCHW.to(self.model.device, self.model.dtype).split(1)
            return torch.cat([self.model.logits(row).float().cpu() for row in rows])

    @property
    def normalisation(self) -> Normalisation:
        """The model's."""
        known = self.model.preprocessing
        return tuple(known["mean"]), tuple(known["std"])

    def read_as(self, normalisation: Normalisation, *, bgr: bool = False) -> Tensor:
        """The same pixels, normalised otherwise, their channels in reverse order with `bgr`."""
        old_mean, old_std, mean, std = (
            torch.tensor(values)[:, None, None] for values in (*self.normalisation, *normalisation)
        )
        pixels_BCHW = self.x_BCHW * old_std + old_mean
        return ((pixels_BCHW.flip(1) if bgr else pixels_BCHW) - mean) / std


def check(
    model: Model,
    data: Shards,
    refs: Iterable[SampleRef],
    *,
    maskings: Sequence[Masking],
    images: int,
) -> Report:
    """Look at the first `images` readable ones. Raises UsageError where there are none, and where
    a masking does not suit the model."""
    checked = Checked(**_read(model, data, refs, images), model=model)
    report, logits_BK = Report(), checked.logits(checked.x_BCHW)
    _preprocessing(report, checked)
    if model.output != "scalar":
        _labels(report, checked, logits_BK)
    _features(report, checked)
    if model.output != "softmax":  # what follows compares classes that exclude each other
        report.facts["output"] = model.output
        return report
    _softmax(report, logits_BK)
    _ends(report, checked, maskings, logits_BK)
    _readings(report, checked, logits_BK)
    return report


def _read(model: Model, data: Shards, refs: Iterable[SampleRef], images: int) -> dict[str, Tensor]:
    def readable():
        for ref in refs:
            try:
                yield read_image(model, data, ref)
            except ValueError:
                continue

    found = list(islice(readable(), images))
    if not found:
        raise UsageError("dataset.shards: none of the images can be read")
    labels = [-1 if sample.label is None else sample.label for sample, _ in found]
    return {
        "x_BCHW": torch.stack([image_CHW for _, image_CHW in found]),
        "labels_B": torch.tensor(labels),
    }


def _preprocessing(report: Report, checked: Checked) -> None:
    known = checked.model.preprocessing
    channels, height, width = known["input_size"]
    report.facts |= {
        "model": f"{checked.model.name}, weights {checked.model.weights_hash[:8]}",
        "images": f"{len(checked.x_BCHW)}, {int((checked.labels_B >= 0).sum())} of them labelled",
        "input": f"{channels} x {height} x {width}, {known['interpolation']}, "
        f"crop {known['crop_pct']:g} {known['crop_mode']}",
        "mean, std": "; ".join(
            " ".join(f"{value:.3f}" for value in known[name]) for name in ("mean", "std")
        ),
    }


def _labels(report: Report, checked: Checked, logits_BK: Tensor) -> None:
    classes, labels_L = logits_BK.shape[1], checked.labels_B[checked.labels_B >= 0]
    said = "no labels"
    if len(labels_L):
        said = f"labels from {int(labels_L.min())} to {int(labels_L.max())}"
        if labels_L.max() >= classes:
            report.warnings.append(
                f"label {int(labels_L.max())} is none of the model's {classes} classes: check "
                "dataset.label, and num_classes or the rows of the prototypes"
            )
    report.facts["classes"] = f"{classes}; {said}"


def _softmax(report: Report, logits_BK: Tensor) -> None:
    probability_BK = logits_BK.softmax(1)
    top = float(probability_BK.amax(1).mean())
    entropy_B = torch.special.entr(probability_BK).sum(1)
    entropy = float(entropy_B.mean() / torch.tensor(logits_BK.shape[1]).log())
    report.facts["softmax"] = f"largest probability {top:.3f}, entropy {entropy:.3f} of log K"
    if entropy > UNIFORM:
        report.warnings.append(
            f"near-uniform softmax (entropy {entropy:.3f} of log K): scale the prototypes "
            "(model.scale, for CLIP 100), or the weights are not trained"
        )
    elif top > SATURATED:
        report.warnings.append(
            f"saturated softmax (largest probability {top:.4f}): curves of probabilities are "
            "steps; lower the scale of the prototypes, or read log-odds"
        )


def _features(report: Report, checked: Checked) -> None:
    model = checked.model
    with torch.inference_mode():
        one_BCHW = checked.x_BCHW[:1].to(model.device, model.dtype)
        width = model.encode(one_BCHW).shape[1]
    report.facts["features"] = (
        f"{width} numbers, then one linear classifier"
        if model.has_features
        else "none: the network does not end in one linear classifier"
    )
    try:
        report.facts["CAM layer"] = model.feature_layer
    except UsageError as error:
        report.facts["CAM layer"] = f"none: {error}"


def _ends(report: Report, checked: Checked, maskings: Sequence[Masking], logits_BK: Tensor) -> None:
    """v of everything and of nothing, as probability and log-odds of the prediction."""
    full, chance = float(logits_BK.softmax(1).amax(1).mean()), 1 / logits_BK.shape[1]
    cells = []
    for masking in maskings:
        name = name_of(masking)
        tasks = [_played(checked.model, image_CHW, masking) for image_CHW in checked.x_BCHW]
        found = torch.tensor(list(Engine(checked.model).run(tasks, in_flight=len(tasks)))).double()
        empty = float(found.sigmoid().mean(0)[0])  # log-odds to probabilities
        odds = found.mean(0).tolist()
        cells.append([name, f"{full:.3f}", f"{empty:.3f}", f"{odds[1]:.2f}", f"{odds[0]:.2f}"])
        if empty - chance > max(0.02, KEPT * (full - chance)):
            report.warnings.append(
                f"{name}: with everything hidden the prediction keeps {empty:.3f} of {full:.3f} "
                f"(chance is {chance:.3f}): the masking leaves the class visible, or the "
                "model prefers it whatever it sees; curves begin that high"
            )
    heads = ["masking", "p, all", "p, none", "log-odds, all", "log-odds, none"]
    report.tables.append(f"{ruled(heads, cells)}\nchance is {chance:.3f}")


def _played(model: Model, image_CHW: Tensor, masking: Masking) -> Turn[list[float]]:
    """Log-odds of the prediction with nothing and with everything visible."""
    one_HW = torch.zeros(model.input_hw, dtype=torch.long)
    arena = Arena(model, View(image_CHW, model.preprocessing), one_HW, "")
    yield from arena.meet(masking, None)
    return (yield from arena.open(masking)).ends.value_C.tolist()


def _readings(report: Report, checked: Checked, logits_BK: Tensor) -> None:
    """The same pixels read otherwise: by the label's probability or, where no image has a label
    of the model's, by that of the prediction, which does not tell of normalisations."""
    known_B = (checked.labels_B >= 0) & (checked.labels_B < logits_BK.shape[1])
    labelled = bool(known_B.any())
    readings = {}
    if checked.x_BCHW.shape[1] == 3:
        readings["BGR"] = checked.read_as(checked.normalisation, bgr=True)
        for name, given in NORMALISATIONS.items():
            if labelled and given != checked.normalisation:
                readings[name] = checked.read_as(given)

    def scored(logits_BK: Tensor) -> tuple[Tensor, list[str]]:
        log_p_BK = logits_BK.log_softmax(1)
        if not labelled:
            best_B = log_p_BK.amax(1)
            return best_B, ["-", f"{float(best_B.exp().mean()):.3f}"]
        log_p_BK, labels_B = log_p_BK[known_B], checked.labels_B[known_B]
        score_B = log_p_BK.gather(1, labels_B[:, None])[:, 0]
        right = float((log_p_BK.argmax(1) == labels_B).double().mean())
        return score_B, [f"{right:.3f}", f"{float(score_B.exp().mean()):.3f}"]

    plain_B, said = scored(logits_BK)
    cells = [["as configured", *said, "-"]]
    for name, x_BCHW in readings.items():
        score_B, said = scored(checked.logits(x_BCHW))
        p = by_chance(score_B - plain_B)
        cells.append([name, *said, f"{p:.3f}"])
        if p < LEVEL:
            report.warnings.append(_doubt(name))
    whose = "label" if labelled else "prediction"
    report.tables.append(
        ruled(["pixels read", "accuracy", f"p of {whose}", "better by chance"], cells)
    )


def by_chance(gains_B: Tensor) -> float:
    """Share of random signs under which the mean gain is as large: the one-sided p-value that gains
    are symmetric around 0."""
    generator = torch.Generator().manual_seed(0)
    signs_RB = torch.randint(0, 2, (DRAWS, len(gains_B)), generator=generator).double() * 2 - 1
    means_R = (signs_RB @ gains_B.double()) / len(gains_B)
    return float((means_R >= gains_B.double().mean() - TIE).double().mean())


def _doubt(name: str) -> str:
    said = f"pixels read otherwise ({name}) do better: "
    if name == "BGR":
        return said + "the weights may expect BGR; flip their first convolution's input channels"
    return said + "check model.preprocessing.mean and .std"
