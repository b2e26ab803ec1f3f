import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline import UsageError
from pipeline.models import TimmModel, fold_batch_norms, hash_weights


def test_folding_changes_nothing_but_speed():
    for name in ("test_efficientnet", "test_resnet", "densenet121"):
        module = timm.create_model(name, num_classes=7).eval()
        for norm in module.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(norm.running_mean, -0.2, 0.2)
                torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
        x = torch.randn(1, 3, 160, 160)
        folded = fold_batch_norms(module, (3, 160, 160))
        with torch.inference_mode():
            expected = module(x)
            scale = float(expected.abs().max())
            torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-4 * scale)


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
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="no readable checkpoint"):
        TimmModel(weights=str(bad), **spec).load()
    with pytest.raises(UsageError, match=r"resnet81.*close: .*resnet"):
        TimmModel(name="resnet81", weights="random").load()


def test_random_weights_are_the_same_every_time():
    spec = TimmModel(name="test_vit", weights="random")
    assert spec.load().weights_hash == spec.load().weights_hash
