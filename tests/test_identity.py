"""True names and content addresses: what decides them, and what does not."""

from dataclasses import dataclass, field

import pytest

from jobs import evaluate
from pipeline.identity import content, fingerprint, name_of
from pipeline.judges.regions import Regions
from pipeline.masking.adversarial import Adversarial
from pipeline.masking.blur import Blur
from pipeline.masking.corruption import Corruption
from pipeline.masking.token_drop import TokenDrop
from pipeline.masking.zero import Zero
from pipeline.methods.random import Random
from pipeline.methods.subset import Subset
from pipeline.models.timm import TimmModel
from pipeline.players.patch_grid import PatchGrid
from pipeline.scores.target import Target
from pipeline.searches.greedy import Greedy
from pipeline.studies.curves.build import build

GIVEN = (
    *("dataset.name=x", "dataset.shards=x.tar", "out=run", "methods=[random_0,gradcam]"),
    *("model=timm", "model.name=test_efficientnet", "model.weights=random"),
)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Players of somebody's own, whose setting is a component."""

    masking: Blur = field(default_factory=Blur)


@pytest.mark.parametrize(
    ("component", "name"),
    [
        (PatchGrid(grid=7), "grid7"),
        (Zero(), "zero"),
        (TokenDrop(), "token_drop"),
        (Blur(), "blur"),
        (Blur(sigma=3.0), "blur(sigma=3)"),
        (Blur(sigma=2.5, kernel=9), "blur(sigma=2.5, kernel=9)"),
        (Corruption(kind="fog"), "corruption(kind=fog)"),
        (Adversarial(attack="fgsm"), "adversarial(attack=fgsm)"),
        (Cut(), "cut"),
        (Cut(masking=Blur(sigma=3.0)), "cut(masking=blur(sigma=3))"),
    ],
)
def test_names_say_what_differs_from_the_defaults(component, name):
    assert name_of(component) == name


def test_content_is_class_version_and_settings_of_all_that_is_nested(monkeypatch):
    search = Subset(score=Target(), search=Greedy())
    before = content(search)
    assert before["class"] == "pipeline.methods.subset.Subset" and before["version"] == 1
    assert before["score"]["read"] == "log_odds" and "grid" not in before
    assert content(Subset(score=Target(), search=Greedy(), stop="flip")) != before
    monkeypatch.setattr(Greedy, "version", 2)
    assert content(search)["search"]["version"] == 2
    assert fingerprint(content(search)) != fingerprint(before)


def addresses(*overrides: str, **changes) -> tuple[dict, dict]:
    """Of orders and of rows, by method."""
    work = build(evaluate.main.settings([*GIVEN, *overrides]) | changes)
    return dict(work.order_fingerprints), dict(work.fingerprints)


@pytest.fixture
def usual(tiny_model, monkeypatch):
    """Addresses without loading a model each time."""
    monkeypatch.setattr(TimmModel, "load", lambda *_: tiny_model)
    return addresses("players=patch7", "masking=blur")


@pytest.mark.parametrize(
    "same",
    [
        ("players=patch14", "players.grid=7", "masking=blur"),
        ("players=patch7", "masking=blur", "masking.sigma=5"),
        ("players=patch7", "masking=blur", "dataset.shards=y.tar", "out=elsewhere"),
        ("players=patch7", "masking=blur", "model.label=mine", "cluster.actors=3"),
    ],
    ids=str,
)
def test_names_of_files_and_labels_are_no_part_of_an_address(usual, same):
    assert addresses(*same) == usual


def test_nor_is_the_name_that_a_method_is_given(usual):
    methods = evaluate.main.settings([*GIVEN])["methods"]
    orders, rows = addresses(
        "players=patch7", "masking=blur", methods={"mine": methods["random_0"]}
    )
    assert orders == {"mine": usual[0]["random_0"]} and rows == {"mine": usual[1]["random_0"]}


@pytest.mark.parametrize(
    "changed",
    [
        ("players=patch14", "masking=blur"),
        ("players=patch7", "masking=blur", "masking.sigma=3"),
        ("players=patch7", "masking=blur", "target=label"),
        ("players=patch7", "masking=blur", "+model.kwargs.num_classes=10"),
    ],
    ids=str,
)
def test_what_decides_an_order_changes_both_addresses(usual, changed):
    for one, other in zip(addresses(*changed), usual, strict=True):
        assert one.keys() == other.keys() and not set(one.values()) & set(other.values())


def test_a_class_is_explained_however_it_is_named():
    given = ("players=patch7", "dataset.class_names=imagenet")
    assert addresses(*given, "target='tiger cat'") == addresses(*given, "target=282")


def test_what_judges_an_order_is_no_part_of_the_order_s_address(usual, monkeypatch):
    orders, rows = addresses("players=patch7", "masking=blur", "masking@curve_masking=zero")
    assert orders == usual[0] and not set(rows.values()) & set(usual[1].values())
    monkeypatch.setattr(Regions, "version", 2)
    orders, rows = addresses("players=patch7", "masking=blur")
    assert orders == usual[0] and not set(rows.values()) & set(usual[1].values())


def test_a_version_makes_anew_what_it_is_the_version_of_and_nothing_else(usual, monkeypatch):
    monkeypatch.setattr(Random, "version", 2)
    for found, before in zip(addresses("players=patch7", "masking=blur"), usual, strict=True):
        assert found["random_0"] != before["random_0"] and found["gradcam"] == before["gradcam"]
    monkeypatch.setattr(PatchGrid, "version", 2, raising=False)
    for found, before in zip(addresses("players=patch7", "masking=blur"), usual, strict=True):
        assert found["gradcam"] != before["gradcam"]
