"""Two runs row by row: what belongs together, how far it has drifted, what is written of it."""

from itertools import permutations

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import encode, write_tar
from PIL import Image
from scipy.stats import spearmanr
from synthetic import curve, made, seal

from jobs import compare as job
from pipeline import UsageError
from pipeline.compare.agreement import agreements, table
from pipeline.compare.drift import DRIFT, direction, drift, worst
from pipeline.compare.matching import matched
from pipeline.compare.orders import iou, likeness, places_of
from pipeline.compare.thresholds import exceeded

RULE = {"resamples": 200, "seed": 0, "confidence": 0.95}


def run(out, fingerprint="f", keys="abc", **more):
    return seal(out, ([curve(k, fingerprint, **more) for k in keys], made(fingerprint)))


def compared(one, other, **how):
    rows = drift(matched(one, other, **how), 0.5)
    return rows, agreements(rows, **RULE)


def test_a_run_agrees_with_itself_whatever_its_fingerprint(tmp_path):
    pairs = matched(run(tmp_path / "one", "f"), run(tmp_path / "two", "g"))
    rows = drift(pairs, 0.5)
    (line,) = agreements(rows, **RULE)
    assert line.n == 3 and set(line.shares.values()) == {1.0}
    assert (line.difference, line.low, line.high, line.largest, line.loss) == (0,) * 5
    assert (line.flips, line.wrong, line.right) == (0, 0, 0)
    assert pairs.alone == ({}, {}) and pairs.notes(("one", "two")) == []
    assert worst(rows, 9) == []


def test_shares_and_gaps_are_those_of_the_rows(tmp_path):
    one = run(tmp_path / "one", keys="ab", order=[0, 1, 2, 3], auc_probability=0.5)
    rows = [
        curve("a", "g", order=[0, 1, 3, 2], auc_probability=0.7, flip=3, prediction=2),
        curve("b", "g", order=[0, 1, 2, 3], auc_probability=0.5),
    ]
    found, (line,) = compared(one, seal(tmp_path / "two", (rows, made("g"))))
    assert line.shares == pytest.approx(
        {
            "same_order": 0.5,
            "same_picks": 0.75,
            "parting": 0.75,
            "overlap": 1.0,
            "iou": (2 / 3 + 1) / 2,  # {0, 1} and {0, 1, 3}
            "spearman": 0.9,
            "kendall": (4 / 6 + 1) / 2,
        }
    )
    assert line.difference == pytest.approx(-0.1) and line.largest == pytest.approx(0.2)
    assert line.loss == pytest.approx(0.1) and line.low < -0.1 < line.high
    assert (line.flips, line.wrong, line.right) == (0.5, 0, 1)
    ((place, (row,)),) = worst(found, 9)
    assert place == ("s.tar", "a") and row["flipped"]
    assert (row["prediction"], row["against_prediction"]) == (1, 2)


def test_differences_change_sign_with_the_sides(tmp_path):
    one, two = run(tmp_path / "one", keys="abcd"), run(tmp_path / "two", "g", keys="cde", seed=1)
    (_, (there,)), (_, (back,)) = compared(one, two), compared(two, one)
    assert there.shares == back.shares and there.n == back.n == 2
    assert there.difference == pytest.approx(-back.difference)
    assert there.low == pytest.approx(-back.high)
    pairs = matched(one, two)
    assert pairs.alone == ({"moxi": 2}, {"moxi": 1})
    assert pairs.notes(("one", "two")) == [
        "one: 2 more rows, which the other run does not hold: moxi (2)",
        "two: 1 more rows, which the other run does not hold: moxi (1)",
    ]


def test_methods_and_games_of_one_run_alone_are_counted_and_named(tmp_path):
    more = [([curve(k, "r", "rise") for k in "ab"], made("r", "rise"))]
    more += [([curve("a", "b", masking="blur")], made("b"))]
    one = seal(tmp_path / "one", ([curve(k, "f") for k in "ab"], made("f")), *more)
    pairs = matched(one, run(tmp_path / "two", "g", keys="ab"))
    assert pairs.alone == ({"rise": 2, "moxi of masking blur": 1}, {})


def test_failed_rows_and_images_of_other_bytes_are_left_out_and_told(tmp_path):
    rows = [
        curve("a", "g", content="1"),
        curve("b", "g", content="3"),
        curve("c", "g", status="failed", error="x"),
    ]
    one = seal(tmp_path / "one", (rows, made("g")))
    pairs = matched(one, run(tmp_path / "two", content="1"))
    assert len(pairs.here_P) == 1
    assert pairs.notes(("one", "two")) == [
        "one: 1 rows failed and are not compared",
        "two: 1 more rows, which the other run does not hold: moxi (1)",
        "1 pairs of rows are of images whose bytes or label have changed; they are not compared",
    ]


def test_two_settings_of_one_method_are_refused_not_collapsed(tmp_path):
    parts = [([curve("a", f)], made(f)) for f in ("ffffffff1", "gggggggg1")]
    both, one = seal(tmp_path / "both", *parts), run(tmp_path / "one")
    with pytest.raises(UsageError, match="two settings") as refused:
        matched(both, one)
    assert "ffffffff" in str(refused.value) and "gggggggg" in str(refused.value)
    assert len(matched(both, one, where=({"fingerprint": "gggggggg1"}, {})).here_P) == 1
    with pytest.raises(UsageError, match="no row has fingerprint=h; there is ffffffff1, gggg"):
        matched(both, one, where=({"fingerprint": "h"}, {}))
    with pytest.raises(UsageError, match="no column colour; use one of dataset"):
        matched(both, one, where=({"colour": "red"}, {}))


def test_releases_in_one_directory_are_told_apart_and_compared_on_request(tmp_path):
    parts = [
        ([curve(k, f, model=model, seed=seed) for k in "abc"], made(f))
        for seed, (f, model) in enumerate((("f", "v1"), ("g", "v2")))
    ]
    both = seal(tmp_path / "both", *parts)
    where = ({"model": "v2"}, {"model": "v1"})
    with pytest.raises(UsageError, match=r"model is v2 and v1 \(across=\[model\] compares these"):
        matched(both, both, where=where)
    rows, (line,) = compared(both, both, where=where, across=["model"])
    assert line.labels["model"] == "v2" and line.labels["against_model"] == "v1"
    assert rows["against_fingerprint"].to_pylist() == ["f"] * 3
    assert "against model" in table([line]).heads
    with pytest.raises(UsageError, match="two settings for the same images: model is v1 and v2"):
        matched(both, both, across=["model"])
    with pytest.raises(UsageError, match=r"across=\['modle'\]: use one of model"):
        matched(both, both, across=["modle"])


def test_another_model_s_orders_are_a_game_of_their_own(tmp_path):
    parts = [([curve("a", f, order_model=of)], made(f)) for f, of in (("f", None), ("g", "vgg19"))]
    pairs = matched(seal(tmp_path / "both", *parts), run(tmp_path / "one", "h", keys="a"))
    assert drift(pairs, 0.5)["order_model"].to_pylist() == [None]
    assert pairs.alone[0] == {"moxi of order_model vgg19": 1}


@pytest.mark.parametrize(
    ("column", "value"), [("players", "grid7"), ("n_players", 16), ("dataset", "pets")]
)
def test_different_games_are_not_compared(column, value, tmp_path):
    one, two = run(tmp_path / "one"), run(tmp_path / "two", **{column: value})
    with pytest.raises(UsageError, match=f"no row in common: {column} is .* and {value}$"):
        matched(one, two)


def test_judges_without_a_curve_are_compared_by_what_they_measure(tmp_path):
    bare = dict.fromkeys(("fraction", "probability", "top1", "auc_probability", "auc_top1", "flip"))

    def judged(out, fingerprint, value):
        return run(out, fingerprint, judge="mu", measure="mu_fidelity", value=value, **bare)

    one, two = judged(tmp_path / "one", "f", 0.25), judged(tmp_path / "two", "g", 0.5)
    rows, (line,) = compared(one, two)
    assert line.measure == "mu_fidelity" and line.difference == -0.25 and line.loss == 0.25
    assert rows["iou"].null_count == rows["auc_difference"].null_count == 3
    assert "+0.00" not in table([line]).text() and "-2.50e-01" in table([line]).text()


@pytest.mark.parametrize(
    ("measure", "insertion", "deletion"),
    [
        ("auc_probability", 1, -1),
        ("mean_top1", 1, -1),
        ("auc_log_odds_least_first", -1, 1),
        ("mu_fidelity", 1, 1),
        ("auc_output", 0, 0),
        ("sanity", 0, 0),
    ],
)
def test_what_is_better_of_a_measure(measure, insertion, deletion):
    assert direction(measure, "insertion") == insertion
    assert direction(measure, "deletion") == deletion


def test_rank_correlations_are_scipys_and_reversal_is_the_least():
    for order in permutations(range(4)):
        found = likeness([0, 1, 2, 3], list(order), 4, 0.5)
        back = np.argsort(order)
        assert found.spearman == pytest.approx(spearmanr(range(4), back).statistic)
        assert found.overlap == len({0, 1} & set(order[:2])) / 2
    least = likeness([0, 1, 2, 3], [3, 2, 1, 0], 4, 0.5)
    assert least.spearman == least.kendall == pytest.approx(-1)
    assert (least.overlap, least.picks, least.parting) == (0, 0, 0)


def test_players_without_a_place_share_the_last_ones():
    assert places_of(np.array([2, 0]), 5).tolist() == [1, 3, 0, 3, 3]
    found = likeness([2, 0], [2, 0, 1], 5, 0.4)
    assert found.overlap == 1 and found.picks == pytest.approx(2 / 3) and not found.same
    assert likeness([], [0, 1], 2, 0.5).spearman is None
    assert iou([], []) == 1 and iou([1], []) == 0


def test_thresholds_say_what_is_beyond_them(tmp_path):
    one = run(tmp_path / "one", order=[0, 1, 2, 3], auc_probability=0.5)
    two = run(tmp_path / "two", "g", order=[3, 2, 1, 0], auc_probability=0.6, prediction=0)
    _, found = compared(one, two)
    nothing = dict.fromkeys(("iou", "flips", "loss", "change"))
    assert exceeded(found, nothing) == []
    assert exceeded(found, {"iou": 0.0, "flips": 1.0, "loss": 0.2, "change": 0.2}) == []
    assert exceeded(found, {"iou": 0.1, "flips": 0.9, "loss": 0.05, "spearman": -1.0}) == [
        "moxi, insertion: iou 0 < 0.1 (fail_if.iou)",
        "moxi, insertion: flips 1 > 0.9 (fail_if.flips)",
        "moxi, insertion: loss 0.1 > 0.05 (fail_if.loss)",
    ]


def test_the_job_leaves_rows_tables_and_pictures_and_fails_beyond_a_threshold(tmp_path, capsys):
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    members = {f"{key}.png": encode(image, "PNG") for key in "abc"}
    shards = str(write_tar(tmp_path / "s.tar", members))
    data = {"_target_": "pipeline.data.shards.Shards", "name": "toy", "shards": shards}
    runs = []
    for name, order, area in (("one", [0, 1, 2, 3], 0.5), ("two", [3, 1, 2, 0], 0.9)):
        rows = [
            curve("a", name, order=order, auc_probability=area),
            curve("b", name, order=[0, 1, 2, 3], auc_probability=0.5),
        ]
        seal(tmp_path / name, (rows, made(name, dataset=data)))
        runs.append(str(tmp_path / name))
    given = [f"out={runs[0]}", f"against={runs[1]}", "resamples=50", "seed=1"]
    job.main.job(job.main.settings(given))
    said = capsys.readouterr().out
    assert "moxi" in said and "report: " in said
    rows = pq.read_table(tmp_path / "one" / "drift.parquet")
    assert rows.schema.names == DRIFT.names and len(rows) == 2
    assert (tmp_path / "one" / "drift.csv").read_text().count("\n") == 2
    assert (tmp_path / "one" / "drift.md").read_text().startswith("| method | objective |")
    page = (tmp_path / "one" / "report" / "drift.html").read_text()
    assert "1 of 2 images changed" in page and "a: moxi, insertion" in page
    assert page.count("data:image/webp") == 4 and "b: moxi" not in page
    assert page.index("against: moxi, insertion") < page.index("out: moxi, insertion")
    with pytest.raises(SystemExit) as ended:
        job.main.job(job.main.settings([*given, "fail_if.loss=0.1"]))
    assert ended.value.code == 3
    assert "loss 0.2 > 0.1 (fail_if.loss)" in capsys.readouterr().out
