"""What the gallery draws of an order, a map, a region, and how often."""

import numpy as np
import pytest
from conftest import encode, write_tar
from PIL import Image
from shown import items, numbers
from synthetic import PREPROCESSING, curve, made, seal

from pipeline import studies
from pipeline.studies.curves.tiles import best_prefix, values

SUBSET = {
    "_target_": "pipeline.methods.subset.Subset",
    "score": {"_target_": "pipeline.scores.target.Target"},
    "search": {"_target_": "pipeline.searches.greedy.Greedy"},
}
SETTINGS = {"subset": "all", "grid": 5, "resamples": 20, "confidence": 0.95, "seed": 0}


@pytest.fixture
def shown(tmp_path):
    """What is drawn of rows of one photograph, which a search has made."""

    def drawn(*rows: dict, node: dict = SUBSET) -> list[dict]:
        noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        write_tar(tmp_path / "s.tar", {"a.png": encode(Image.fromarray(noise), "PNG")})
        data = {
            "_target_": "pipeline.data.shards.Shards",
            "name": "toy",
            "shards": f"{tmp_path}/s.tar",
            "class_names": "imagenet",
        }
        parts = []
        for fingerprint in dict.fromkeys(row["fingerprint"] for row in rows):
            entry = made(fingerprint, "search", dataset=data, methods={"search": node})
            mine = [row for row in rows if row["fingerprint"] == fingerprint]
            parts.append((mine, entry | {"preprocessing": PREPROCESSING}))
        run = seal(tmp_path / "run", *parts)
        (found,) = studies.findings(SETTINGS | {"out": run.out})
        return items(found.section(1))

    return drawn


def regions(drawn: list[dict]) -> list[dict]:
    """Regions that searches found."""
    return [item["region"] for item in drawn if item["region"]]


def test_an_order_that_serves_both_objectives_has_one_map_and_one_region(shown):
    both = [curve("a", "f", "search", objective=o) for o in ("insertion", "deletion")]
    drawn = shown(*both)
    assert [item["objective"] for item in drawn] == ["insertion", "deletion"]
    assert [item["values"] is not None for item in drawn] == [True, False]
    assert len(regions(drawn)) == 1 and drawn[0]["both"] and not regions(drawn)[0]["cured"]


def test_two_orders_have_a_map_each(shown):
    orders = {"insertion": [0, 1, 2, 3], "deletion": [3, 1, 2, 0]}
    rows = [curve("a", "f", "search", objective=o, order=order) for o, order in orders.items()]
    drawn = shown(*rows)
    assert all(item["values"] for item in drawn)
    assert [numbers(item["order"]).tolist() for item in drawn] == list(orders.values())


def test_an_order_that_several_maskings_judge_has_the_map_of_its_own(shown):
    one = curve("a", "f", "search", order_fingerprint="o", probability=[0, 1, 0, 0, 0.5])
    other = {"fingerprint": "e", "curve_masking": "blur", "probability": [0, 0, 0, 0, 1]}
    drawn = shown(one | other, one)
    assert sum(item["values"] is not None for item in drawn) == 1
    (found,) = regions(drawn)
    assert found["caption"] == "25 % of the pixels: probability 1.000, 0.500 with all"


@pytest.mark.parametrize("node", ["pipeline.methods.random.Random", "pipeline.methods.gone.Gone"])
def test_what_no_search_made_has_an_order_alone(shown, node):
    (item,) = shown(curve("a", "f", "search"), node={"_target_": node})
    assert item["objective"] == "insertion" and item["values"] is item["region"] is None


def test_a_curve_is_held_as_the_rows_have_it(shown):
    row = curve("a", "f", "search", log_odds=[-400.0, -1.25, 0.0, 1.25, 400.0])
    (item,) = shown(row)
    assert numbers(item["fraction"]) / 65535 == pytest.approx(row["fraction"], abs=1e-5)
    assert numbers(item["probability"]) / 65535 == pytest.approx(row["probability"], abs=1e-5)
    odds = numbers(item["log_odds"], "<i2") / 100
    assert odds.tolist() == [-327.67, -1.25, 0.0, 1.25, 327.67]
    assert item["top1"] == "00111" and item["n"] == 4 and item["flip"] == 2


def test_a_mistake_is_cured_by_hiding_the_dark_regions(shown):
    row = curve("a", "f", "search", prediction=971, target=892, label=892)
    row |= {"probability": [0.0, 0.4, 0.5, 0.6, 0.1], "top1": [False, True, True, False, False]}
    (found,) = regions(shown(row))
    assert found["cured"] and found["k"] == 2
    said = "without the dark regions (50 % of the pixels) it is wall clock (892)"
    assert found["caption"] == f"{said}: probability 0.500, 0.100 with all"


def test_a_mistake_that_nothing_cures_shows_the_searched_region(shown):
    row = curve("a", "f", "search", prediction=971, target=892, top1=[False] * 5)
    (found,) = regions(shown(row | {"probability": [0.0, 0.4, 0.5, 0.6, 0.1]}))
    assert not found["cured"] and found["k"] == 3
    said = "75 % of the pixels, never the prediction: probability 0.600, 0.100 with all"
    assert found["caption"] == said


def test_interactions_of_pairs_are_held_in_units_of_the_largest(shown):
    (item,) = shown(curve("a", "f", "search", pairs=[0.0, -2.0, 2.0, 1.0, 0.0, 0.0]))
    assert item["pairs"]["largest"] == 2.0
    assert numbers(item["pairs"]["halves"], "u1").tolist() == [128, 0, 255, 191, 128, 128]


def test_the_best_prefix_is_the_first_at_the_top_and_never_empty():
    row = {"probability": [0.9, 0.2, 0.8, 0.8, 0.1], "top1": [True, True, False, False, False]}
    assert best_prefix(row) == 2 and best_prefix(row, top1=True) == 1
    assert best_prefix(row | {"top1": [True, *[False] * 4]}, top1=True) == 0


def test_values_are_hot_where_curves_change_and_nothing_where_nobody_ranked():
    row = {"order": [2, 0], "n_players": 4, "scores": None, "probability": [0.1, 0.2, 0.7, 0.9]}
    heat_N = values({"insertion": row})  # the last point closes a search that stopped early
    assert heat_N == pytest.approx([0.05, 0, 1, 0])
    full = row | {"order": [2, 0, 1, 3], "probability": [0.1, 0.2, 0.4, 0.4, 0.9]}
    back = full | {"probability": [0.9, 0.8, 0.8, 0.4, 0.1]}
    change_K = np.array([0, 0.2, 0.4, 0.8])  # p(S) + 1 - p(V - S) after the first pick
    expected_K = 0.05 + 0.95 * (1 - change_K.cumsum() / change_K.sum())
    assert values({"insertion": full, "deletion": back})[full["order"]] == pytest.approx(expected_K)
    scored = row | {"scores": [0.5, -1.0, 3.0, -1.0]}
    assert values({"insertion": scored}) == pytest.approx([0.05, 0, 1, 0])


def test_rows_of_judges_without_a_curve_are_shown_with_what_they_measure(shown):
    nothing = dict.fromkeys(
        ("fraction", "probability", "top1", "auc_probability", "auc_top1", "flip")
    )
    one = curve("a", "f", "search", judge="mu_fidelity", measure="mu_fidelity", value=0.25)
    steps = curve("a", "g", "search", judge="pixel_steps(pixels=224)", flip=190)
    steps |= {"measure": "auc_probability", "value": 0.5}
    drawn = shown(one | nothing, steps)
    assert [item["caption"] for item in drawn] == ["mu_fidelity 0.250", "auc_probability 0.500"]
    assert not any("fraction" in item for item in drawn), "nothing to replay"
