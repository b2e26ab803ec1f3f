"""Explaining and judging from Python, on real weights and photographs."""

import re

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT
from PIL import Image

from pipeline import UsageError
from pipeline.api import explain, judge
from pipeline.maps import assigned_values, both_ways
from pipeline.methods.random import Random
from pipeline.methods.subset import Subset
from pipeline.scores.target import Target
from pipeline.searches.greedy import Greedy

SNIPPETS = [
    code
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    if "pipeline.api" in code
]


@pytest.fixture(scope="module")
def pictures(photographs, tmp_path_factory) -> list[Image.Image]:
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("chelsea.png", "coffee.png"):
        (folder / name).write_bytes(photographs[name])
    return [Image.open(folder / name) for name in ("chelsea.png", "coffee.png")]


def test_the_readme_s_snippets_run_as_they_are_written(pictures, tmp_path, monkeypatch):
    assert len(SNIPPETS) == 2 and all(len(code.strip().splitlines()) <= 5 for code in SNIPPETS)
    pictures[0].convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image.Image, "show", lambda self: None)
    again = [Image.open(tmp_path / "photo.jpg")] * 2
    there = {"model": "efficientnet_lite0", "images": again, "targets": None}
    exec(SNIPPETS[0], there)
    found = there["found"]
    assert sorted(found.order[0]) == list(range(16)) and found.target == [282]
    assert found.heat_BHW.shape == (1, 224, 224) and found.scores[0].argmax() == found.order[0][0]
    assert found.curve[0].auc_probability == found.auc[0] > 0.2
    assert found._repr_png_().startswith(b"\x89PNG")
    there["attributions_BHW"] = np.repeat(found.heat_BHW, 2, 0)
    exec(SNIPPETS[1], there)
    judged = there["judged"]
    assert judged.order[0] == found.order[0]
    assert judged.auc[0] == pytest.approx(found.auc[0], abs=1e-5)  # an order is an order
    assert judged.forwards == 2 * (2 + 2 * 15)  # two ends, two curves; a map costs nothing


def test_any_module_and_a_tensor(tiny_model):
    module = timm.create_model("test_vit", num_classes=7)
    x_BCHW = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    found = explain(module, x_BCHW, target=[3, 4], grid=5, masking="token_drop")
    assert found.target == [3, 4] and len(found.order[0]) == 25
    logits_BK = module(x_BCHW)
    assert found.prediction == logits_BK.argmax(1).tolist()
    p_B = logits_BK.softmax(1)[[0, 1], [3, 4]].detach().numpy()
    assert [c.probability[-1] for c in found.curve] == pytest.approx(p_B, abs=1e-5)
    other = explain(tiny_model, x_BCHW[0], method=Random(seed=1), grid=2)
    assert set(other.curves[0]) == {"insertion", "deletion"}


def test_every_pixel_of_a_map_has_a_value(tiny_model):
    x_BCHW = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    found = explain(tiny_model, x_BCHW, grid=2, masking="black")
    rank_BHW, assigned_BHW = found.maps("rank"), found.maps("assigned")
    assert rank_BHW.shape == assigned_BHW.shape == (2, 160, 160)
    assert set(np.unique(rank_BHW)) == {1, 2, 3, 4}
    for i, order in enumerate(found.order):
        values_G = found.curve[i].probability
        expected = assigned_values(order, values_G, 4)
        assert [assigned_BHW[i][found.regions[i] == p][0] for p in range(4)] == list(expected)
    few = Subset(score=Target(), search=Greedy(), stop="budget", budget=2)
    stopped = explain(tiny_model, x_BCHW, method=few, grid=2, masking="black")
    for kind in ("rank", "assigned"):
        first = stopped.maps(kind)[0]
        there_HW = np.isin(stopped.regions[0], stopped.order[0])
        assert first[there_HW].min() > first[~there_HW].max()
    with pytest.raises(UsageError, match="kind='heat': use 'rank' or 'assigned'"):
        found.maps("heat")


def test_a_map_looks_both_ways_where_one_order_serves_both_objectives(tiny_model):
    x_CHW = torch.randn(3, 160, 160, generator=torch.Generator().manual_seed(0))
    found = explain(tiny_model, x_CHW, method=Random(seed=1), grid=2)
    curves = found.curves[0]
    values_G = both_ways(curves["insertion"].probability, curves["deletion"].probability)
    expected_N = assigned_values(found.order[0], values_G, 4)
    assert found.maps("assigned")[0] == pytest.approx(expected_N[found.regions[0]])


def test_a_module_without_a_word_on_its_images_needs_a_transform(pictures):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))

    def transform(image):
        small = image.convert("RGB").resize((8, 8))
        return torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1) / 255

    found = explain(module, pictures, grid=2, masking="black", transform=transform)
    assert [len(order) for order in found.order] == [4, 4]
    with pytest.raises(UsageError, match="transform="):
        explain(module, pictures, grid=2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "moxi"}, "methods='moxi'.*moxi_insertion"),
        ({"masking": "grey"}, "masking='grey'.*blur"),
        ({"grid": 7}, "grid=7 does not divide"),
        ({"target": [1, 2, 3]}, "3 classes for 1 images"),
        ({"target": 10}, "class 10 is not one of the model's 10"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(given, said, tiny_model):
    with pytest.raises(UsageError, match=said) as caught:
        explain(tiny_model, torch.zeros(3, 160, 160), **({"grid": 2} | given))
    assert "\n" not in str(caught.value)


def test_maps_that_do_not_fit_are_refused(tiny_model):
    images_BCHW = torch.randn(2, 3, 160, 160)
    with pytest.raises(UsageError, match="1 maps for 2 images"):
        judge(torch.rand(1, 160, 160), tiny_model, images_BCHW, grid=2)
    with pytest.raises(UsageError, match="interpolate"):
        judge(torch.rand(2, 7, 7), tiny_model, images_BCHW, grid=2)
    with pytest.raises(ValueError, match="constant"):
        judge(torch.ones(2, 160, 160), tiny_model, images_BCHW, grid=2)
