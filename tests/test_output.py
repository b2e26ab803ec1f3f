"""What logits mean: of several classes one, of several labels any, or one number."""

import pyarrow as pa
import pytest
import torch
from conftest import encode, moxi, write_tar
from PIL import Image

from jobs import evaluate
from pipeline import UsageError
from pipeline.data.shards import Shards
from pipeline.engine import Engine
from pipeline.game import TOP
from pipeline.game.sets import read_out
from pipeline.judges.regions import Regions
from pipeline.masking.zero import Zero
from pipeline.methods.random import Random
from pipeline.methods.rise import Rise
from pipeline.methods.saliency import Saliency
from pipeline.methods.subset import Subset
from pipeline.models.timm import TimmModel
from pipeline.models.torchvision import TorchvisionModel
from pipeline.players.patch_grid import PatchGrid
from pipeline.rows import RunDir, parts
from pipeline.scores.submodular import Submodular
from pipeline.scores.target import Target
from pipeline.searches.greedy import Greedy
from pipeline.studies.curves.build import build
from pipeline.studies.curves.rows import CURVES, SCHEMA
from pipeline.studies.curves.study import findings
from pipeline.studies.curves.work import CurvesWork

pytestmark = pytest.mark.usefixtures("one_thread")


def model(output, classes=3):
    kwargs = {"num_classes": classes}
    return TimmModel(
        name="test_efficientnet", weights="random", output=output, kwargs=kwargs
    ).load()


def test_log_odds_of_a_sigmoid_are_its_logits():
    logits_BK = torch.tensor([[1.0, 3.0, -2.0], [0.5, -1.0, 0.0]])
    index_BT = torch.tensor([[2, TOP], [1, TOP]])
    read_BR = read_out(logits_BK, index_BT, output="sigmoid", entropy=True)
    assert read_BR[:, :4].tolist() == [[-2, 3, -2, 3], [-1, 0.5, -1, 0.5]]
    assert read_BR[:, 4].tolist() == [1, 0] and read_BR[:, 5].isnan().all()


def test_probabilities_are_those_of_the_output():
    logits_BK = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model("softmax").probabilities(logits_BK), logits_BK.softmax(1))
    assert torch.equal(model("sigmoid").probabilities(logits_BK), logits_BK.sigmoid())
    with pytest.raises(UsageError, match="a number, not a probability"):
        model("scalar", 1).probabilities(logits_BK[:, :1])


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    pixels = torch.randint(0, 256, (2, 40, 60, 3), dtype=torch.uint8).numpy()
    members = {f"{k}.png": encode(Image.fromarray(pixels[k]), "PNG") for k in range(2)}
    members |= {f"{k}.cls": b"0" for k in range(2)}
    return str(write_tar(tmp_path_factory.mktemp("output") / "x.tar", members))


def work(network, shard, **methods):
    return CurvesWork(
        data=Shards(name="x", shards=shard),
        model=network,
        players=PatchGrid(grid=4),
        masking=Zero(),
        curve_masking=Zero(),
        judge=Regions(),
        methods=methods,
        names=dict.fromkeys(("model", "weights", "players", "masking", "curve_masking"), "x"),
        fingerprints={name: name for name in methods},
        order_fingerprints=dict.fromkeys(methods, "y"),
        target="label",
    )


def rows_of(job):
    job.check()
    refs = list(job.data.index())
    tasks = [job.explain(job.read(ref, job.wanted, {}), job.wanted, {}) for ref in refs]
    found = [row for rows in Engine(job.model).run(tasks, in_flight=2) for row in rows]
    assert {row["status"] for row in found} == {"ok"}
    return found


def aggregated(out, rows):
    """What a run of these rows is told."""
    run = RunDir(str(out), CURVES)
    made = {"config": {}, "fingerprints": {}}
    content = parts.to_bytes(parts.to_table(rows, made, SCHEMA))
    run.write(run.path("results", "x-0.parquet"), content)
    settings = {"subset": "all", "grid": 5, "resamples": 10, "seed": 0, "confidence": 0.9}
    return findings(run, settings)


def test_curves_of_a_sigmoid_are_its_own_probability(shard, tmp_path):
    network = model("sigmoid")
    methods = {"search": moxi("insertion"), "rise": Rise(forwards=8, grid=2)}
    job = work(network, shard, saliency=Saliency(read="probability"), **methods)
    found = rows_of(job)
    for row in found:
        _, image_CHW = job.image(next(r for r in job.data.index() if r.key == row["key"]))
        with torch.no_grad():
            logits_K = network.logits(image_CHW[None])[0]
        full = -1 if row["objective"] == "insertion" else 0
        assert row["log_odds"][full] == pytest.approx(float(logits_K[0]), abs=1e-5)
        assert row["probability"][full] == pytest.approx(float(logits_K.sigmoid()[0]), abs=1e-6)
        assert row["prediction"] == int(logits_K.argmax())
    assert "search" in aggregated(tmp_path, found).table


def test_a_scalar_output_has_curves_of_itself_and_no_probability(shard, tmp_path):
    network = model("scalar", 1)
    job = work(network, shard, search=moxi("insertion"), chance=Random())
    found = rows_of(job)
    for row in found:
        _, image_CHW = job.image(next(r for r in job.data.index() if r.key == row["key"]))
        with torch.no_grad():
            output = float(network.logits(image_CHW[None])[0, 0])
        full = -1 if row["objective"] == "insertion" else 0
        assert row["log_odds"][full] == pytest.approx(output, abs=1e-5)
        assert (row["probability"], row["top1"], row["auc_probability"]) == (None, None, None)
        assert sorted(row["order"]) == list(range(16)) and row["prediction"] == 0
    told = aggregated(tmp_path, found)
    assert {summary["n"] for summary in told.summary} == {2} and "chance" in told.table
    assert pa.Table.from_pylist(found)["auc_top1"].null_count == len(found)


@pytest.mark.parametrize(
    ("output", "method", "said"),
    [
        ("scalar", Rise(forwards=8), "number, not a probability"),
        ("scalar", Subset(score=Target(read="probability"), search=Greedy()), "no probability"),
        ("sigmoid", Subset(score=Submodular(), search=Greedy()), "entropy needs"),
    ],
    ids=["rise", "probability", "entropy"],
)
def test_what_reads_what_there_is_not_is_refused_beforehand(output, method, said, shard):
    job = work(model(output, 1 if output == "scalar" else 3), shard, method=method)
    with pytest.raises(UsageError, match=rf"methods\.method.*{said}|model\..*{said}"):
        job.check()


def test_outputs_that_cannot_be_are_refused():
    for spec in (TimmModel, TorchvisionModel):
        with pytest.raises(UsageError, match=r"model\.output='tanh': use one of softmax, sigmoid"):
            spec(name="resnet18", weights="random", output="tanh")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"model\.output=scalar: .* 2 outputs"):
            spec(name="resnet18", weights="random", output="scalar", kwargs={"num_classes": 2})
    with pytest.raises(UsageError, match=r"model\.output=scalar: .* 1000 outputs"):
        TimmModel(name="test_efficientnet", weights="random", output="scalar").load()


def test_the_output_is_part_of_an_address_unless_it_is_a_softmax(tiny_model, monkeypatch):
    monkeypatch.setattr(TimmModel, "load", lambda *_: tiny_model)

    def prints(*overrides, drop=False):
        given = ("dataset.name=x", "dataset.shards=x.tar", "out=run", "methods=[random_0]")
        more = ("model=timm", "model.name=test_efficientnet", "model.weights=random")
        settings = evaluate.main.settings([*given, *more, "players=patch7", *overrides])
        if drop:
            del settings["model"]["output"]
        return dict(build(settings).fingerprints)

    assert prints() == prints(drop=True) != prints("model.output=sigmoid")
