"""jobs.undesirable end to end: real Ray, tars, photographs and ImageNet weights, few steps."""

import csv
from pathlib import Path

import duckdb
import numpy as np
import pytest
from processes import job
from shown import images

from pipeline.rows import RunDir
from pipeline.studies.masks.controls import CONTROLS
from pipeline.studies.masks.rows import MASKS
from pipeline.studies.masks.statistics import aggregate as aggregate_masks

METHODS = ("undesirable_base", "f_tc", "f_ntc")
SETTINGS = {
    "subset": "all",
    "resamples": 200,
    "seed": 0,
    "confidence": 0.95,
    "grid": 11,
}


@pytest.fixture(scope="module")
def given(demo_shards, shared_ray) -> tuple[str, ...]:
    shards = ("dataset=demo", f"dataset.shards={demo_shards}", "dataset.limit=2")
    return (*shards, "cluster.threads=1", "cluster.actors=1", shared_ray)


def ask(out: Path, given: tuple[str, ...], *overrides: str, methods=METHODS):
    return job(
        "undesirable",
        *given,
        f"out={out}",
        "greedy_grid=4",
        "tracking=disabled",
        f"methods=[{','.join(methods)}]",
        *(f"methods.{name}.steps=4" for name in methods),
        *(f"methods.{name}.start=uniform" for name in methods),
        *overrides,
    )


def rows(out: Path) -> list[dict]:
    table = duckdb.sql(f"select * from read_parquet('{out}/masks/**/*.parquet')")
    names = [column for column, *_ in table.description]
    return [dict(zip(names, row, strict=True)) for row in table.fetchall()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, given) -> Path:
    out = tmp_path_factory.mktemp("undesirable") / "run"
    ask(out, given)
    return out


def test_rows_hold_masks_and_what_they_do(finished):
    found = rows(finished)
    assert {(r["method"], r["trial"]) for r in found} == {
        ("undesirable_base", 0),
        ("f_tc", 0),
        ("f_ntc", 0),
    }
    assert len(found) == 2 * 3
    for row in found:
        assert row["status"] == "ok", row["error"]
        assert len(row["mask"]) == len(row["mask_best"]) == 28 * 28
        assert min(row["mask"]) >= 0 and max(row["mask"]) <= 1
        for when in ("before", "after"):
            gap = row[f"probability_{when}"] + row[f"residual_{when}"] - 1
            assert gap == pytest.approx(0, abs=1e-12)
        before, after = row["residual_before"], row["residual_after"]
        assert row["phi"] == pytest.approx(100 * (before - after) / before)
        assert len(row["losses"]) == 5 and min(row["losses"]) == pytest.approx(row["loss_best"])
        score = 1 if row["method"] == "f_ntc" else 0
        assert row["loss_ones"] == pytest.approx(score - row["probability_before"], abs=1e-5)
        assert row["fractions"] == sorted(row["fractions"], reverse=True)
        assert row["undesirable"] == pytest.approx(row["fractions"][11], abs=1e-6)
        assert all(0 < row[f"residual_{name}"] < 1 for name in CONTROLS)
    blurred = {(r["key"], round(r["residual_full_blur"], 4)) for r in found}
    assert len(blurred) == len({r["key"] for r in found}) == 2


def test_actors_and_batches_do_not_decide_masks(finished, given, tmp_path):
    def masks(out: Path) -> dict[tuple, list[float]]:
        return {(r["key"], r["method"]): r["mask"] for r in rows(out)}

    one = masks(finished)
    more = ("controls=[]", "cluster.actors=2", "engine.tokens_per_batch=1200")
    ask(tmp_path / "two", given, *more)
    assert one == masks(tmp_path / "two") and len(one) == 6
    assert all(group.summary["n"] == 2 for group in masks_of(tmp_path / "two").groups)


def test_only_what_is_new_is_computed_and_the_report_shows_masks(finished, given):
    said = ask(finished, given).stdout
    assert "6 of 6 rows are there; nothing to compute" in said
    more = ("trials=2", "methods.f_ntc.cells=14")
    said = ask(finished, given, *more, methods=["f_tc", "f_ntc"]).stdout
    assert "2 of 8 rows are there; computing 6 rows of 2 images" in said
    again = {(r["key"], r["trial"]): r["mask"] for r in rows(finished) if r["method"] == "f_tc"}
    assert sorted(trial for _, trial in again) == [0, 0, 1, 1]
    assert again["chelsea", 0] != again["chelsea", 1]
    said = job("aggregate", f"out={finished}", "resamples=200").stdout
    assert "f_ntc" in said and "undesirable_base" in said
    page = (finished / "report" / "index.html").read_text()
    assert "Undesirable pixels" in page and "Areas under the curves" not in page
    items = [i for image in images(page) for view in image["views"] for i in view["items"]]
    assert len(items) == 2 * 4 and all(item["blur"].startswith("data:image") for item in items)
    assert "probability" in page
    with open(finished / "undesirable.csv") as file:
        lines = list(csv.DictReader(file))
    # the same method with other settings is another line, told apart by its fingerprint
    assert sorted(line["method"] for line in lines) == [
        "f_ntc",
        "f_ntc",
        "f_tc",
        "undesirable_base",
    ]
    assert len({line["title"] for line in lines}) == 4
    assert all(float(line["phi_low"]) <= float(line["phi"]) for line in lines)


def test_statistics_are_those_of_the_rows(finished):
    found = {g.summary["method"]: g.summary for g in masks_of(finished).groups}
    chosen = [r for r in rows(finished) if r["method"] == "undesirable_base"]
    s = found["undesirable_base"]
    assert s["phi_printed"] == pytest.approx(np.mean([r["phi"] for r in chosen]))
    gained = sum(r["residual_before"] - r["residual_after"] for r in chosen)
    assert s["phi_ratio"] == pytest.approx(100 * gained / sum(r["residual_before"] for r in chosen))
    assert s["worse"] == np.mean([r["loss_after"] > r["loss_ones"] for r in chosen])
    assert s["n"] == 2 and s["failed"] == 0
    assert s["n_0_50"] + s["n_50_90"] + s["n_90_99"] + s["n_99_100"] + s["saturated"] == 2


def masks_of(out: Path):
    return aggregate_masks(RunDir(str(out), MASKS), SETTINGS)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["methods=[moxi_insertion]"], ["moxi_insertion optimises no mask", "f_tc"]),
        (["controls=[none]"], ["controls", "none", "greedy"]),
        (["engine.precision=bf16"], ["engine.precision", "fp32"]),
        (["methods.f_tc.anchor=all"], ["anchor='all'", "others"]),
        (["greedy_grid=9"], ["greedy_grid=9 does not divide"]),
        (["trials=3"], ["trials=3", "noise"]),
        (["methods.f_tc.cells=28.5"], ["cells=28.5", "whole number"]),
        (["dataset.seed=1"], ["dataset.seed=1", "dataset.limit"]),
    ],
)
def test_bad_requests_get_one_line_and_exit_status_2(overrides, said, demo_shards, tmp_path):
    given = ["dataset=demo", f"dataset.shards={demo_shards}", f"out={tmp_path}/run"]
    done = job("undesirable", *given, *overrides, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for words in said:
        assert words in line
