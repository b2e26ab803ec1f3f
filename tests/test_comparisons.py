"""A run's methods against each other: differences, standings, pooled seeds, agreement, files."""

import json

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from conftest import write_tar
from synthetic import curve, made, seal

from jobs import aggregate as job
from pipeline import UsageError, statistics, studies
from pipeline.rows import RunDir
from pipeline.statistics.scan import Scan
from pipeline.studies.curves.grid import Curves
from pipeline.studies.curves.rows import CURVES

SETTINGS = {"subset": "all", "grid": 5, "resamples": 200, "confidence": 0.95, "seed": 0}
IMAGES = [f"{name}_{i}" for name in "abcd" for i in range(8)]
METHODS = {"moxi": 0.7, "gradcam": 0.5, "random_0": 0.3, "random_1": 0.32, "random_2": 0.28}
RANDOM = "pipeline.methods.random.Random"
MOXI = {
    "_target_": "pipeline.methods.subset.Subset",
    "score": {"_target_": "pipeline.scores.target.Target"},
    "search": {"_target_": "pipeline.searches.greedy.Greedy"},
}


def config(method: str) -> dict:
    if method.startswith("random"):
        return {"_target_": RANDOM, "seed": int(method[-1])}
    return MOXI if method == "moxi" else {"_target_": "pipeline.methods.gradcam.GradCam"}


def rows_of(method: str, objective: str, judged: str = "zero", **more) -> list[dict]:
    """Areas about METHODS[method], above for insertion, below for deletion."""
    found = []
    for i, key in enumerate(IMAGES):
        rng = np.random.default_rng([i, *method.encode(), *objective.encode()])
        shift = METHODS[method] - 0.5
        area = 0.5 + (shift if objective == "insertion" else -shift) + 0.08 * rng.normal()
        right = 1 if i % 4 else 2
        found.append(
            curve(
                key,
                f"{method}-{judged}",
                method,
                objective=objective,
                curve_masking=judged,
                auc_probability=float(np.clip(area, 0, 1)),
                label=right,
                log_odds=[-1.0, 0, 0.5, 1, 2],
            )
            | more
        )
    return found


def run_of(folder, judgings=("zero", "blur"), methods=tuple(METHODS)) -> RunDir:
    parts = []
    for judged in judgings:
        rows = [
            r for m in methods for o in ("insertion", "deletion") for r in rows_of(m, o, judged)
        ]
        prints = {m: f"{m}-{judged}" for m in methods}
        told = made("x", methods={m: config(m) for m in methods}) | {"fingerprints": prints}
        parts.append((rows, told))
    return seal(folder, *parts)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDir:
    return run_of(tmp_path_factory.mktemp("compared") / "run")


def found_in(run: RunDir, **settings) -> studies.Findings:
    (found,) = studies.findings(SETTINGS | settings | {"out": run.out})
    return found


def lines(table, **where) -> list[dict]:
    return [r for r in table.to_pylist() if all(r[name] == value for name, value in where.items())]


def test_the_best_is_the_reference_and_seeds_are_one_method(run):
    found = found_in(run)
    compared = lines(found.files["comparisons"], curve_masking="zero", objective="insertion")
    assert {r["method"] for r in compared} == {
        "gradcam, judged under zero",
        "random (3 seeds), judged under zero",
    }
    for row in compared:
        assert row["against"] == "moxi, judged under zero" and row["chosen"]
        assert row["difference_low"] < row["difference"] < row["difference_high"] < 0
        assert row["n"] == 32 and row["better"] + row["worse"] + row["equal"] == 32
        assert row["p"] <= row["p_holm"] < 0.01 and row["more_images"] == 0
        assert row["cohens_dz"] < -1 and row["rank_biserial"] < -0.9
        assert row["probability_better"] < 0.01 and row["improvement"] < 0.2
    (pooled,) = (r for r in compared if r["label"].startswith("random"))
    assert pooled["seeds"] == 3
    first = [r["auc_probability"] for s in range(3) for r in rows_of(f"random_{s}", "insertion")]
    moxi = [r["auc_probability"] for r in rows_of("moxi", "insertion")]
    assert pooled["difference"] == pytest.approx(np.mean(first) - np.mean(moxi))


def test_of_deletion_less_is_better(run):
    found = found_in(run, against="gradcam", margin=0.05)
    stands = lines(found.files["standings"], objective="deletion", curve_masking="zero")
    best = max(stands, key=lambda r: r["probability_best"])
    assert best["label"] == "moxi" and not best["more_is_better"] and best["rank_high"] == 1
    cell = {"objective": "deletion", "curve_masking": "zero"}
    compared = lines(found.files["comparisons"], **cell, chosen=False)
    (moxi,) = (r for r in compared if r["label"] == "moxi")
    assert moxi["difference"] < -0.1 and moxi["probability_better_by_margin"] > 0.99
    assert moxi["better"] > 25
    best = lines(found.files["comparisons"], **cell, chosen=True)
    assert {r["against"] for r in best} == {moxi["method"]}
    (random,) = (r for r in compared if r["label"].startswith("random"))
    assert random["difference"] > 0 and random["probability_worse_by_margin"] > 0.99
    seeds = [
        np.mean([r["auc_probability"] for r in rows_of(f"random_{s}", "deletion")])
        for s in range(3)
    ]
    (stand,) = (r for r in stands if r["seeds"] == 3)
    assert stand["seeds_sd"] == pytest.approx(np.std(seeds, ddof=1))


def test_a_search_under_the_masking_that_judges_it_is_flagged(run):
    found = found_in(run)
    own = {
        (r["label"], r["curve_masking"])
        for r in lines(found.files["standings"])
        if r["own_masking"]
    }
    assert own == {("moxi", "zero")}
    assert "(own masking)" in found_in(run, against="gradcam").table


def test_ranks_and_profiles_are_long_tables(run):
    found = found_in(run)
    ranks = lines(found.files["ranks"], objective="insertion", curve_masking="zero")
    assert len(ranks) == 9
    assert sum(r["probability"] for r in ranks if r["rank"] == 1) == pytest.approx(1)
    (row,) = lines(
        found.files["profiles"],
        label="moxi",
        objective="insertion",
        curve_masking="zero",
        threshold=min(
            r["threshold"]
            for r in lines(found.files["profiles"], objective="insertion", curve_masking="zero")
        ),
    )
    assert row["share_above"] == 1


def test_judges_that_see_the_same_agree(run):
    found = found_in(run)
    between = lines(found.files["agreement"], of="judgings")
    assert len(between) == 2  # one an objective: rows differ in their judging masking alone
    for row in between:
        assert (row["tau"], row["alpha"]) == (1, 1) and row["methods"] == 3 and row["n"] == 32
    within = lines(found.files["agreement"], of="images")
    assert len(within) == 4 and all(0.5 < row["alpha"] < 1 for row in within)


def test_clusters_widen_intervals(tmp_path):
    run = run_of(tmp_path / "run", judgings=("zero",), methods=("moxi", "gradcam"))
    plain, by_name = found_in(run), found_in(run, cluster="key:_")
    (one,) = lines(plain.files["comparisons"], objective="insertion")
    (two,) = lines(by_name.files["comparisons"], objective="insertion")
    assert (one["clusters"], two["clusters"]) == (32, 4) and one["difference"] == two["difference"]
    assert one["design_effect"] == pytest.approx(1) and two["design_effect"] != 1
    for a, b in zip(plain.summary, by_name.summary, strict=True):
        assert a["auc_probability"] == pytest.approx(b["auc_probability"])
        assert b["auc_probability_low"] != a["auc_probability_low"]
    with pytest.raises(UsageError, match="cluster=identity: no row has it; give a column such as"):
        found_in(run, cluster="identity")


def test_subsets_and_attributes(run):
    whole = found_in(run, by="label")
    (key,) = {
        r["title"] for r in whole.summary if r["method"] == "moxi" and r["curve_masking"] == "zero"
    }
    some = lines(whole.files["by_attribute"], title=key, objective="insertion")
    assert {r["is"]: r["n"] for r in some} == {"1": 24, "2": 8}
    one = found_in(run, subset="label:2")
    assert {r["n"] for r in one.summary} == {8}
    (mean,) = (
        r["auc_probability"]
        for r in one.summary
        if r["title"] == key and r["objective"] == "insertion"
    )
    assert mean == pytest.approx(next(r["value"] for r in some if r["is"] == "2"))
    with pytest.raises(UsageError, match="subset=label:7: no row is; label is 1, 2"):
        found_in(run, subset="label:7")
    with pytest.raises(UsageError, match="against=moxie: no such method; use one of moxi"):
        found_in(run, against="moxie")


def test_mean_curves_of_subsets_and_pools_are_a_file(run):
    curves = found_in(run).files["curves"]
    found = duckdb.sql(
        "select subset, quantity, count(*) from curves where method = 'moxi' and "
        "curve_masking = 'zero' and objective = 'insertion' group by all"
    ).fetchall()
    assert set(found) == {
        (subset, quantity, 5)
        for subset in ("all", "correct", "wrong")
        for quantity in ("probability", "top1", "log_odds")
    }
    means = {
        r["subset"]: r["mean"]
        for r in lines(
            curves,
            title="moxi, judged under zero",
            objective="insertion",
            quantity="probability",
            fraction=0.5,
        )
    }
    assert means["all"] == pytest.approx((24 * means["correct"] + 8 * means["wrong"]) / 32)
    pooled = lines(
        curves,
        method="random (3 seeds)",
        curve_masking="zero",
        quantity="probability",
        objective="insertion",
        fraction=0.25,
        subset="all",
    )
    every = [r["probability"][1] for s in range(3) for r in rows_of(f"random_{s}", "insertion")]
    assert pooled[0]["mean"] == pytest.approx(np.mean(every)) and pooled[0]["seeds"] == 3


def test_fields_of_the_samples_json_cluster_and_choose(tmp_path):
    names = {key: {"owner": key[0]} for key in IMAGES}
    names["a_0"] = {}  # belongs to no owner, and is a cluster of its own
    members = {f"{key}.json": json.dumps(told).encode() for key, told in names.items()}
    write_tar(tmp_path / "s.tar", {f"{key}.jpg": b"x" for key in IMAGES} | members)
    shards = {"_target_": "pipeline.data.shards.Shards", "name": "toy"}
    methods = {m: config(m) for m in ("moxi", "gradcam")}
    told = made("x", methods=methods, dataset=shards | {"shards": f"{tmp_path}/s.tar"})
    told |= {"fingerprints": {m: f"{m}-zero" for m in methods}}
    rows = [r for m in methods for r in rows_of(m, "insertion")]
    run = seal(tmp_path / "run", (rows, told))
    (row,) = lines(found_in(run, cluster="json.owner").files["comparisons"])
    assert row["clusters"] == 5
    assert {r["n"] for r in found_in(run, subset="json.owner:b").summary} == {8}
    with pytest.raises(UsageError, match=r"by=json.breed: no sample has that field"):
        found_in(run, by="json.breed")


def test_a_search_on_some_images_is_extended_by_a_cheap_one_on_all(tmp_path):
    some = [r for r in rows_of("moxi", "insertion") if r["key"] < "c"]
    cheap = [
        r | {"auc_probability": r["auc_probability"] - 0.1} for r in rows_of("moxi", "insertion")
    ]
    cheap = [r | {"method": "fast", "fingerprint": "fast"} for r in cheap]
    prints = {"moxi": "moxi-zero", "fast": "fast"}
    told = made("x", methods={"moxi": MOXI, "fast": MOXI}) | {"fingerprints": prints}
    run = seal(tmp_path / "run", ([*some, *cheap], told))
    found = found_in(run, cheap="fast", exact="moxi")
    (row,) = lines(found.files["two_phase"])
    truth = np.mean([r["auc_probability"] for r in rows_of("moxi", "insertion")])
    assert (row["n"], row["others"]) == (16, 16) and row["low"] < truth < row["high"]
    assert row["high"] - row["low"] < row["alone_high"] - row["alone_low"]
    shown = f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    assert shown in found.table and "of all images" in found.table
    given = job.main.settings([f"out={run.out}", "cheap=fast"])
    with pytest.raises(UsageError, match="cheap and exact"):
        statistics.check(given)


def test_normalised_areas_lie_between_the_image_s_own_ends(tmp_path):
    ends = {"probability": [0.2, 0.3, 0.4, 0.5, 0.6], "auc_probability": 0.4}
    rows = [curve(k, "f", **ends) for k in "abc"]
    rows.append(curve("flat", "f", probability=[0.5] * 5, auc_probability=0.5))
    found = found_in(seal(tmp_path, (rows, made("f"))), quantity="auc_normalised")
    (summary,) = found.summary
    assert summary["auc_normalised"] == pytest.approx(0.5) and summary["n_normalised"] == 3


def test_order_of_parts_changes_nothing(tmp_path):
    rows = [r for m in ("moxi", "gradcam") for r in rows_of(m, "insertion")]
    told = made("x", methods={m: config(m) for m in ("moxi", "gradcam")})
    told |= {"fingerprints": {m: f"{m}-zero" for m in ("moxi", "gradcam")}}
    one = seal(tmp_path / "one", (rows, told))
    other = seal(tmp_path / "two", (rows[::-2], told), (rows[::2], told), (rows[-2::-2], told))
    for a, b in zip(found_in(one).summary, found_in(other).summary, strict=True):
        assert a["auc_probability_low"] == pytest.approx(b["auc_probability_low"], abs=1e-6)


def test_whole_rows_are_found_again(run):
    scan = Scan.of(run)
    whole = scan.whole(scan.first(2))
    assert whole["key"].to_pylist() == ["a_0"] * 20 + ["a_1"] * 20
    assert whole.schema.names == CURVES.schema.names and whole["order"][0].as_py()
    right = scan.only(scan.right_N == 1)
    assert right.n_images == 24 and right.first(1) == [("toy", "s.tar", "a_1")]


def test_curves_are_read_off_as_numpy_does():
    rng = np.random.default_rng(0)
    xs = [np.sort(rng.random(n)).astype(np.float32) for n in (2, 9, 40)]
    xs[1][3] = xs[1][4]  # a player without pixels
    xs = [np.concatenate([[0], x, [1]]).astype(np.float32) for x in xs]
    ys = [rng.random(len(x)).astype(np.float32) for x in xs]
    grid_G = np.linspace(0, 1, 21)
    lists = [pa.chunked_array([pa.array(v, pa.list_(pa.float32()))]) for v in (xs, [*ys[:2], None])]
    (found,) = Curves(lists[0]).at(grid_G, [lists[1]])
    for x, y, mine in zip(xs[:2], ys, found, strict=False):
        np.testing.assert_allclose(mine, np.interp(grid_G, x, y), atol=1e-9)
    assert np.isnan(found[2]).all()
