import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.engine import Engine
from pipeline.game.arena import Arena
from pipeline.masking import Shown
from pipeline.methods.subset import Subset
from pipeline.models.timm import TimmModel
from pipeline.players import View
from pipeline.scores.target import Target
from pipeline.searches.greedy import Greedy

ROOT = Path(__file__).resolve().parent.parent


def job(name: str, *overrides: str, check: bool = True) -> subprocess.CompletedProcess:
    """Run `python -m jobs.<name>` as a user would; on failure show what it said."""
    done = subprocess.run(
        [sys.executable, "-m", f"jobs.{name}", *overrides],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


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
    from pipeline.data.packers import demo

    return {
        f"{s['__key__']}.{ext}": value
        for s in demo.samples()
        for ext, value in s.items()
        if isinstance(value, bytes)
    }


@pytest.fixture(scope="session")
def demo_shards(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("demo")
    job("demo", f"out={folder}")
    return f"{folder}/demo-*.tar"


@pytest.fixture(scope="session")
def tiny_model():
    """timm's smallest EfficientNet, 160 x 160, seeded weights."""
    return TimmModel(name="test_efficientnet", weights="random", kwargs={"num_classes": 10}).load()


@pytest.fixture(scope="module")
def one_thread():
    """Operations this small wait for threads longer than they run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
