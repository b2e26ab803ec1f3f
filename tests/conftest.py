import functools
import io
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from processes import ROOT, ray_cluster

from jobs import demo
from pipeline.engine import Engine
from pipeline.game.arena import Arena
from pipeline.masking import Shown
from pipeline.methods.subset import Subset
from pipeline.models import Model
from pipeline.models.timm import TimmModel
from pipeline.players import View
from pipeline.scores.target import Target
from pipeline.searches.greedy import Greedy


@functools.cache
def group(path: str) -> str:
    """Of tests that one tester has: modules that start jobs are one, every other is its own."""
    return "jobs" if "from processes import" in (ROOT / path).read_text() else path


def pytest_collection_modifyitems(items):
    """Modules that start jobs come first: among several testers they would end last."""
    items.sort(key=lambda item: group(item.nodeid.split("::")[0]) != "jobs")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A Ray that starts while another does may be too slow for itself."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid.split("::")[0])

    return Groups(config, log)


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def encode(image: Image.Image, format: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photographs() -> dict[str, bytes]:
    """The demo photographs, {file name: bytes}."""
    from pipeline.data.packers.demo import Demo

    return {
        f"{entry.key}.{entry.extension}": Path(str(entry.image)).read_bytes()
        for entry in Demo().entries()
    }


@pytest.fixture(scope="session")
def demo_shards(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("demo")
    demo.main.job(demo.main.settings([f"out={folder}"]))
    return f"{folder}/demo-*.tar"


@pytest.fixture(scope="session")
def shared_ray():
    """The setting by which a job joins a Ray that many tests share: to start one takes longer."""
    for address in ray_cluster():
        yield f"cluster.address={address}"


@pytest.fixture(scope="session")
def tiny_model():
    """timm's smallest EfficientNet, 160 x 160, seeded weights."""
    return TimmModel(name="test_efficientnet", weights="random", kwargs={"num_classes": 10}).load()


class Linear(torch.nn.Module):
    """Logits that are linear in the pixels: the gradient is known."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight_KP = torch.nn.Parameter(torch.randn(3, 3 * 12 * 12, generator=generator) / 20)

    def forward(self, x_BCHW):
        return x_BCHW.flatten(1) @ self.weight_KP.T


@pytest.fixture(scope="session")
def linear() -> Model:
    preprocessing = {"input_size": (3, 12, 12), "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return Model(module=Linear().requires_grad_(False), preprocessing=preprocessing)


@pytest.fixture(scope="module")
def one_thread():
    """Operations this small wait for threads longer than they run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def heats(model, method, images, targets, **engine):
    """Maps of several images, through one engine."""
    found = {}

    def task(i):
        coroutine, reply = method.heat(images[i], targets[i]), None
        while True:
            try:
                request = coroutine.send(reply)
            except StopIteration as stop:
                found[i] = stop.value
                return
            reply = (yield request).answer

    engine = Engine(model, **engine)
    list(engine.run((task(i) for i in range(len(images))), in_flight=len(images)))
    return [found[i] for i in range(len(images))], engine


def sharpened(model):
    """Larger weights: attention of the initial ones is nearly uniform."""
    for parameter in model.module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(
                parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel())
            )
    return model


def moxi(objective: str, **stop) -> Subset:
    """MoXI's search for one objective, as its configuration files say it."""
    insertion = objective == "insertion"
    score = Target(visible="picked" if insertion else "others", sign=1 if insertion else -1)
    return Subset(score=score, search=Greedy(), **stop)


def prepared(model, masking, image_CHW, regions_HW):
    """What a masking makes of one image."""
    arena = Arena(model, View(image_CHW, model.preprocessing), regions_HW, "")
    list(Engine(model).run([arena.prepare(masking)], in_flight=1))
    return arena._prepared[masking]


def logits(model, masking, ready, coalitions_CN):
    """Logits (C, K) of coalitions of a prepared image."""
    with torch.inference_mode():
        return model.classify(masking.encode(model, [Shown(ready, coalitions_CN)]))


def table_game(n_players: int, seed: int = 0):
    """Any game: an independent random value for each of the 2^n coalitions."""
    values = torch.randn(2**n_players, generator=torch.Generator().manual_seed(seed)).double()
    powers = 2 ** torch.arange(n_players)
    return lambda coalitions_CN: values[(coalitions_CN.long() * powers).sum(1)]
