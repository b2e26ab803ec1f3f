import copy
import json
import pickle
import shutil
import sys
import urllib.error
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from pipeline import UsageError
from pipeline.models import Model, transform
from pipeline.models.folding import fold_batch_norms
from pipeline.models.fusion import FusedConv, fuse_activations
from pipeline.models.head import example
from pipeline.models.timm import TimmModel
from pipeline.models.torchvision import TorchvisionModel
from pipeline.models.weights import hash_weights, read_weights

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"name": "test_resnet", "weights": "random"}


def model_of(module: nn.Module, size: int = 32, channels: int = 3) -> Model:
    return Model(module=module.eval(), preprocessing={"input_size": (channels, size, size)})


def two_heads(**kwargs) -> nn.Module:
    return timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, depth=1, **kwargs)


SPLIT = {
    "efficientnet": lambda: timm.create_model("test_efficientnet", num_classes=7),
    "resnet": lambda: timm.create_model("test_resnet", num_classes=7),
    "convnext": lambda: timm.create_model("test_convnext", num_classes=7),
    "vit": lambda: timm.create_model("test_vit", num_classes=7, img_size=32),
    "vit, average": lambda: timm.create_model("test_vit", img_size=32, global_pool="avg"),
    "torchvision resnet": lambda: torchvision.models.resnet18(num_classes=7),
    "torchvision mobilenet": lambda: torchvision.models.mobilenet_v3_small(num_classes=7),
    "torchvision vit": lambda: torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16
    ),
    "sequential": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 5), nn.Linear(5, 4)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(3072, 4))),
}
WHOLE = {
    "two heads": two_heads,
    "two heads, as many classes as features": lambda: two_heads(num_classes=192),
    "convolution": lambda: torchvision.models.squeezenet1_1(num_classes=7),
    "something after": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.Softmax(1)),
}


@pytest.mark.parametrize("network", [pytest.param(f, id=k) for k, f in SPLIT.items()])
def test_a_network_is_features_and_a_classifier(network):
    model = model_of(network())
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        features, logits = model.encode(x), model.module(x)
        assert model.has_features and features.shape[1] == model._parts.head.in_features
        torch.testing.assert_close(model.classify(features), logits)
        torch.testing.assert_close(model.logits(x), logits)
    own = {p.data_ptr() for p in model.module.parameters()}
    assert {p.data_ptr() for p in model._parts.body.parameters()} < own  # shared, not copied
    assert len(list(model.module.parameters())) == len(own)  # the module itself keeps its head


@pytest.mark.parametrize("network", [pytest.param(f, id=k) for k, f in WHOLE.items()])
def test_what_is_no_features_and_classifier_stays_whole(network):
    model = model_of(network())
    x = torch.randn(2, 3, 32, 32)
    assert not model.has_features
    with torch.no_grad():
        torch.testing.assert_close(model.logits(x), model.module(x))
        torch.testing.assert_close(model.encode(x), model.module(x))


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_features_of_a_vision_transformer_are_its_pre_logits(pool):
    model = TimmModel(name="test_vit", weights="random", kwargs={"global_pool": pool}).load()
    vit, x = model.module, torch.randn(2, 3, *model.input_hw)
    with torch.no_grad():
        expected = vit.forward_head(vit.forward_features(x), pre_logits=True)
        torch.testing.assert_close(model.encode(x), expected)
        assert torch.equal(model.classify(expected), vit.head(expected))


def test_gradients_reach_the_input_through_the_features():
    model = TimmModel(**TINY).load()
    x = torch.randn(1, 3, *model.input_hw, requires_grad=True)
    (found,) = torch.autograd.grad(model.logits(x)[0, 3], x)
    (expected,) = torch.autograd.grad(model.module(x)[0, 3], x)
    torch.testing.assert_close(found, expected)


def test_what_gives_no_logits_is_refused():
    with pytest.raises(UsageError, match="two classes"):
        model_of(nn.Sequential(nn.Flatten(), nn.Linear(3072, 1))).logits(torch.zeros(1, 3, 32, 32))
    with pytest.raises(UsageError, match="gives tuple, not a tensor"):
        _ = model_of(nn.Sequential(nn.Conv2d(3, 4, 1), Pair())).has_features
    fixed = {"name": "vit_tiny_patch16_224", "weights": "random", "kwargs": {"depth": 1}}
    with pytest.raises(UsageError, match=r"cannot read an image of \(3, 64, 64\).*input_size"):
        TimmModel(**fixed, preprocessing={"input_size": [3, 64, 64]}).load()


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize("count", [0, -1, 1, "two"])
def test_fewer_than_two_classes_are_refused(count):
    for spec in (TimmModel, TorchvisionModel):
        with pytest.raises(UsageError, match=rf"model\.kwargs\.num_classes={count!r}: log-odds"):
            spec(name="resnet18", weights="random", kwargs={"num_classes": count})
    with pytest.raises(UsageError, match=r"num_classes=0: log-odds need two classes"):
        TimmModel(name="vit_small_patch14_dinov2", weights="random", kwargs={"depth": 1}).load()


def test_folding_changes_nothing_but_speed():
    for name in ("test_efficientnet", "test_resnet", "densenet121"):
        module = timm.create_model(name, num_classes=7).eval()
        for norm in module.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(norm.running_mean, -0.2, 0.2)
                torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
        x, probe = torch.randn(1, 3, 64, 64), example((3, 64, 64))
        with torch.inference_mode():
            expected = module(x)
            folded = fold_batch_norms(module, probe, module(probe))
            scale = float(expected.abs().max())
            torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [("tf_efficientnet_lite0", 33), ("test_resnet", 7), ("test_efficientnet", 11), ("vgg11", 10)],
)
def test_fused_activations_change_nothing_but_speed(name, pairs):
    """Nor gradients; a ResNet's last activation of a block waits for its shortcut."""
    module = timm.create_model(name, num_classes=7).eval().requires_grad_(False)
    probe, x = example((3, 64, 64)), torch.randn(2, 3, 63, 64)
    module = fold_batch_norms(module, probe, module(probe))
    names = [n for n, _ in module.named_parameters()]
    expected, slopes = module(x), gradient(module, x)
    with torch.inference_mode():
        fused = fuse_activations(module, probe, module(probe))
        found = fused(x.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert sum(isinstance(m, FusedConv) for m in fused.modules()) == pairs
    assert [n for n, _ in fused.named_parameters()] == names
    torch.testing.assert_close(gradient(fused, x), slopes)
    other = copy.deepcopy(fused)
    with torch.inference_mode():
        for weight in other.parameters():
            weight.mul_(0.5)
        assert not torch.allclose(other(x), expected)


def gradient(module, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(module(x)[:, 0].sum(), x)[0]


def test_weights_fit_or_say_where_they_do_not(tmp_path):
    module = timm.create_model("test_resnet", num_classes=5)
    good, other = tmp_path / "good.safetensors", tmp_path / "other.pt"
    save_file(module.state_dict(), good)
    torch.save({"state_dict": timm.create_model("test_vit", num_classes=5).state_dict()}, other)
    spec = {"name": "test_resnet", "kwargs": {"num_classes": 5}}
    assert TimmModel(weights=str(good), **spec).load().weights_hash == hash_weights(module)
    with pytest.raises(UsageError, match=r"other.pt.*does not fit the model"):
        TimmModel(weights=str(other), **spec).load()
    with pytest.raises(UsageError, match="of shape"):
        TimmModel(weights=str(good), name="test_resnet", kwargs={"num_classes": 6}).load()
    with pytest.raises(UsageError, match="no such file"):
        TimmModel(weights="nowhere.pt", **spec).load()
    with pytest.raises(UsageError, match=r"resnet81.*close: .*resnet"):
        TimmModel(name="resnet81", weights="random").load()


def test_damaged_weights_get_one_line(tmp_path):
    module = timm.create_model("test_resnet")
    nan = module.state_dict() | {"fc.bias": torch.full((1000,), torch.nan)}
    save_file(nan, tmp_path / "nan.safetensors")
    torch.save({}, tmp_path / "empty.pt")
    for name, content in {"none.pt": b"", "none.safetensors": b"", "text.pth": b"nothing"}.items():
        (tmp_path / name).write_bytes(content)
    for name, said in {
        "nan.safetensors": "not finite: model.weights",
        "empty.pt": "empty.pt.*holds no state dict of tensors",
        "none.pt": "none.pt.*no readable checkpoint",
        "none.safetensors": "none.safetensors.*no readable checkpoint",
        "text.pth": "text.pth.*no readable checkpoint",
    }.items():
        with pytest.raises(UsageError, match=said) as caught:
            TimmModel(name="test_resnet", weights=str(tmp_path / name)).load()
        assert "\n" not in str(caught.value)


class Evil:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_cannot_run_code(tmp_path):
    made = tmp_path / "ran"
    torch.save({"weight": Evil(made)}, tmp_path / "zip.pt")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil(made)))
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "test_resnet"}))
    torch.save({"weight": Evil(made)}, folder / "pytorch_model.bin")
    for spec in (
        {"name": "test_resnet", "weights": str(tmp_path / "zip.pt")},
        {"name": "test_resnet", "weights": str(tmp_path / "plain.pth")},
        {"name": f"local-dir:{folder}"},
    ):
        with pytest.raises(UsageError) as caught:
            TimmModel(**spec).load()
        assert "\n" not in str(caught.value) and not made.exists()
    Path.touch(made)  # it would have been made
    assert pickle.loads((tmp_path / "plain.pth").read_bytes()) is None and made.exists()


def test_only_known_packages_and_plugins_ship_weights(tmp_path, monkeypatch):
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "mine.safetensors")
    (tmp_path / "my_weights.py").write_text(
        "class File:\n"
        "    @staticmethod\n"
        f"    def get_model_file_path(): return {str(tmp_path / 'mine.safetensors')!r}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"package:my_weights.*plugins=\[my_weights\]"):
        TimmModel(name="test_resnet", weights="package:my_weights").load()
    with pytest.raises(UsageError, match=r"package:os.path.*is not imported"):
        read_weights("package:os.path", plugins=["osx"])
    assert "my_weights" not in sys.modules
    model = TimmModel(name="test_resnet", weights="package:my_weights").load(plugins=["my_weights"])
    assert model.name == "test_resnet"


def test_a_name_says_what_the_weights_are(tmp_path, monkeypatch):
    one = TimmModel(**TINY).load()
    assert one.name == f"test_resnet@{one.weights_hash[:8]}"
    assert TimmModel(**TINY, label="v1.4").load().name == "v1.4"
    file, folder = tmp_path / "w.safetensors", tmp_path / "local"
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), file)
    five = {"num_classes": 5}
    two = TimmModel(name="test_resnet.r160_in1k", weights=str(file), kwargs=five).load()
    assert two.name == f"test_resnet@{two.weights_hash[:8]}" != one.name
    folder.mkdir()
    shutil.copy(file, folder / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 5, "pretrained_cfg": {"crop_pct": 0.5}}
    (folder / "config.json").write_text(json.dumps(config))
    three = TimmModel(name=f"local-dir:{folder}").load()
    assert three.name == f"test_resnet@{three.weights_hash[:8]}"
    assert three.preprocessing["crop_pct"] == 0.5
    # released weights: what would be downloaded
    module = timm.create_model("test_resnet")
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: module)
    assert TimmModel(name="test_resnet").load().name == "test_resnet.r160_in1k"
    digest = hash_weights(module)[:8]
    changed = TimmModel(name="test_resnet", kwargs={"drop_rate": 0.1}).load()
    assert changed.name == f"test_resnet.r160_in1k@{digest}"
    assert TimmModel(name="hf-hub:me/mine@main").load().name == f"me/mine@{digest}"


@pytest.mark.parametrize(
    "name", ["resnet18", "hf-hub:me/mine", "hf-hub:", "local-dir:/nowhere", "resnet18.nope", "a:b"]
)
def test_what_cannot_be_found_gets_one_line(name, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=rf"^model\.name='{name}'") as caught:
        TimmModel(name=name).load()
    assert "\n" not in str(caught.value)


def test_torchvision_models_are_models_like_any_other(tmp_path, monkeypatch):
    one = TorchvisionModel(name="resnet18", weights="random").load()
    assert one.has_features and one.name == f"resnet18@{one.weights_hash[:8]}"
    module, file = torchvision.models.resnet18(num_classes=5), tmp_path / "mine.pt"
    torch.save(module.state_dict(), file)
    spec = {"name": "resnet18", "weights": str(file), "kwargs": {"num_classes": 5}}
    two = TorchvisionModel(**spec).load()
    assert two.weights_hash == hash_weights(module)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(two.logits(x), module.eval()(x), rtol=1e-4, atol=1e-4)

    def offline(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    for wrong, said in (
        ({}, r"model\.name='resnet18', model\.weights=default: .*no network"),
        ({"weights": "IMAGENET1K_V9"}, r"IMAGENET1K_V9.*no such file.*'default'"),
        ({"kwargs": {"depth": 3}, "weights": "random"}, r"model\.kwargs do not fit resnet18"),
        ({"kwargs": {"num_classes": 5}}, r"model\.kwargs do not fit resnet18.*num_classes"),
    ):
        with pytest.raises(UsageError, match=said):
            TorchvisionModel(name="resnet18", **wrong).load()
    with pytest.raises(UsageError, match=r"resnet19.*close: resnet1"):
        TorchvisionModel(name="resnet19")


def test_a_torchvision_release_keeps_its_name_and_preprocessing(monkeypatch):
    release = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(type(release), "get_state_dict", lambda *a, **k: state)
    model = TorchvisionModel(name="resnet18").load()
    assert model.name == "resnet18.IMAGENET1K_V1"
    assert TorchvisionModel(name="resnet18", weights=release.name).load().name == model.name
    pixels = np.random.default_rng(0).integers(0, 256, (300, 421, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    torch.testing.assert_close(model.transform(image), release.transforms()(image))


def test_every_torchvision_classifier_is_resized_as_it_was_released():
    from pipeline.models.torchvision import _preprocessing

    for name in torchvision.models.list_models(module=torchvision.models):
        for release in torchvision.models.get_model_weights(name):
            resize = transform(_preprocessing(release)).transforms[0]
            assert resize.size == release.transforms().resize_size[0]


def test_a_convolution_of_three_dimensions_loads():
    model = TimmModel(name="lambda_resnet26t", weights="random", kwargs={"num_classes": 5}).load()
    assert model.has_features


def test_random_weights_are_the_same_every_time():
    spec = TimmModel(name="test_vit", weights="random")
    assert spec.load().weights_hash == spec.load().weights_hash
