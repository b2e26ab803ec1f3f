"""Settings that cannot work for any image are refused before the first one."""

from dataclasses import replace

import pytest
from conftest import encode, moxi, write_tar
from PIL import Image

from pipeline import UsageError
from pipeline.data.shards import Shards
from pipeline.judges.regions import Regions
from pipeline.masking.token_drop import TokenDrop
from pipeline.masking.zero import Zero
from pipeline.methods.gradcam import GradCam
from pipeline.methods.random import Random
from pipeline.methods.rollout import Rollout
from pipeline.methods.undesirable import Undesirable
from pipeline.players.patch_grid import PatchGrid
from pipeline.studies.curves.work import CurvesWork
from pipeline.studies.masks.work import MasksWork
from pipeline.token import protect

METHODS = {"search": moxi("insertion"), "heat": GradCam(), "chance": Random()}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    png = encode(Image.new("RGB", (40, 40)), "PNG")
    members = {"a.png": png, "a.json": b'{"label": 3, "source": "x"}'}
    return str(write_tar(tmp_path_factory.mktemp("checks") / "x.tar", members))


@pytest.fixture
def work(tiny_model, shards) -> CurvesWork:
    return CurvesWork(
        data=Shards(name="x", shards=shards),
        model=tiny_model,
        players=PatchGrid(grid=4),
        masking=Zero(),
        curve_masking=Zero(),
        judge=Regions(),
        methods=METHODS,
        names={},
        fingerprints={},
    )


class Broken:
    """A method, or a judge, with a fault of its own."""

    version, searches, objectives = 1, False, ("insertion",)

    def explain(self, game):
        yield from ()
        raise RuntimeError("not\nimplemented for BFloat16")

    def judge(self, found, objective, game):
        return self.explain(game)


def test_what_works_passes(work):
    work.check()
    replace(work, target=9).check()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": {"mine": Rollout()}}, "methods.mine: rollout: EfficientNet is no plain Vis"),
        ({"methods": {"mine": Broken()}}, "methods.mine: .* not implemented for BFloat16"),
        ({"judge": Broken()}, "judge: .* not implemented"),
        ({"masking": TokenDrop()}, "masking: token_drop: EfficientNet is no plain Vision"),
        ({"curve_masking": TokenDrop()}, "curve_masking: token_drop: EfficientNet"),
        ({"players": PatchGrid(grid=9)}, "players.grid=9 does not divide"),
        ({"target": 10}, "target=10: the model has classes 0 to 9"),
    ],
)
def test_what_cannot_work_is_refused_by_name(change, said, work):
    with pytest.raises(UsageError, match=f"^{said}") as caught:
        replace(work, **change).check()
    assert "\n" not in str(caught.value)


def test_masks_are_tried_too(tiny_model, shards):
    work = MasksWork(
        data=Shards(name="x", shards=shards),
        model=tiny_model,
        variants={"f_tc": Undesirable(cells=4)},
        greedy_grid=4,
        fingerprints={},
    )
    work.check()
    with pytest.raises(UsageError, match=r"^target=10: the model has classes 0 to 9"):
        replace(work, target=10).check()


def test_labels_that_no_sample_has_are_noticed(work, shards):
    refs = list(work.data.index())
    work.check_labels(refs)
    replace(work, data=Shards(name="x", shards=shards, label="json.label")).check_labels(refs)
    with pytest.raises(UsageError, match=r"json.nope: .*fields are label, source"):
        replace(work, data=Shards(name="x", shards=shards, label="json.nope")).check_labels(refs)
    with pytest.raises(UsageError, match=r"dataset.label=cls: .*samples hold png, json"):
        replace(work, target="label").check_labels(refs)


def test_rays_token_is_its_owners_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    protect()
    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o644)
    protect()
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
