"""Groups keep names of their own wherever they are shown: terminal, figures, tables, tiles."""

import itertools
import re

import numpy as np
import pytest
from conftest import encode, write_tar
from PIL import Image
from shown import index, views
from synthetic import PREPROCESSING, curve, made, seal

from pipeline import UsageError, studies
from pipeline.report import Name, Section, figures, page
from pipeline.rows import RunDir
from pipeline.statistics import check, grouped, n_images
from pipeline.studies.curves.rows import CURVES
from pipeline.studies.masks.rows import MASKS
from pipeline.studies.names import names

SETTINGS = {"subset": "all", "grid": 5, "resamples": 20, "confidence": 0.95, "seed": 0}
GRID = "pipeline.players.patch_grid.PatchGrid"
MOXI = "pipeline.methods.moxi.Moxi"
TIMM = "pipeline.models.TimmModel"


def found_in(run: RunDir) -> studies.Findings:
    (found,) = studies.findings(SETTINGS | {"out": run.out})
    return found


def titles(*groups: tuple[dict, dict]) -> list[str]:
    keys = [row for row, _ in groups]
    found = names(keys, [entry for _, entry in groups])
    return [found[key["fingerprint"]].title for key in keys]


def test_one_setting_is_called_by_its_methods_alone():
    assert titles((curve("a", "f"), made("f")), (curve("a", "g", "gradcam"), made("g"))) == [
        "moxi",
        "gradcam",
    ]


def test_whatever_varies_is_named_and_the_judging_masking_only_where_it_is_another():
    def sweep(*judges):
        cells = itertools.product(("grid4", "grid7"), ("zero", "mean"), judges)
        return titles(
            *(
                (curve("a", f"{i}", players=p, masking=m, curve_masking=j or m), made(f"{i}"))
                for i, (p, m, j) in enumerate(cells)
            )
        )

    assert sweep(None) == [f"moxi, grid{n}, {m}" for n in (4, 7) for m in ("zero", "mean")]
    assert sweep("blur") == sweep(None)
    assert "moxi, grid4, mean, judged under zero" in sweep("zero", "mean")
    assert len(set(sweep("zero", "mean"))) == 8


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"players": {"_target_": GRID, "grid": 4}}, ["players.grid=2", "players.grid=4"]),
        ({"players": {"_target_": "pipeline.x.Slico"}}, ["players=PatchGrid", "players=Slico"]),
        ({"methods": {"moxi": {"_target_": MOXI, "budget": 5}}}, ["", "budget=5"]),
        ({"model": {"_target_": TIMM, "name": "vgg"}}, ["model.name=resnet18", "model.name=vgg"]),
        ({"target": "label"}, ["target=prediction", "target=label"]),
        ({"engine": {"precision": "bf16"}}, ["engine.precision=fp32", "engine.precision=bf16"]),
        ({"judge": {"steps": 9}}, ["", "judge.steps=9"]),
    ],
)
def test_labels_that_agree_are_told_apart_by_provenance(config, told):
    found = titles((curve("a", "f"), made("f")), (curve("a", "g"), made("g", **config)))
    assert found == [f"moxi, {more}" if more else "moxi" for more in told]


def test_only_settings_that_are_needed_are_said_and_at_last_the_fingerprint():
    one, two = made("f"), made("g", target="label", engine={"precision": "bf16"})
    assert titles((curve("a", "f"), one), (curve("a", "g"), two))[1] == "moxi, target=label"
    heavier = made("g") | {"weights_hash": "99aa88bb77"}
    assert titles((curve("a", "f"), one), (curve("a", "g"), heavier)) == [
        "moxi, weights=aae49dd4",
        "moxi, weights=99aa88bb",
    ]
    same = [(curve("a", f), made(f)) for f in ("0123456789", "9876543210")]
    assert titles(*same) == ["moxi, 01234567", "moxi, 98765432"]
    unknown = [(curve("a", f), {}) for f in ("0123456789", "9876543210")]
    assert titles(*unknown) == ["moxi, 01234567", "moxi, 98765432"]


def test_models_of_one_name_are_told_apart():
    keys = [curve("a", f) for f in "fgh"]
    vgg = {"_target_": TIMM, "name": "vgg19"}
    entries = [made("f"), made("g", model=vgg), made("h", target="label")]
    found = names(keys, entries)
    assert [found[f].model for f in "fgh"] == [
        "timm (model.name=resnet18)",
        "timm (model.name=vgg19)",
        "timm (model.name=resnet18)",
    ]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> RunDir:
    """Two maskings x two grids under old labels that say neither, and two models."""
    folder = tmp_path_factory.mktemp("sweep")
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    members = {f"{k}.png": encode(Image.fromarray(noise), "PNG") for k in "abc"}
    write_tar(folder / "s.tar", members)
    data = {
        "_target_": "pipeline.data.shards.Shards",
        "name": "toy",
        "shards": f"{folder}/s.tar",
    }
    parts = []
    cells = itertools.product((2, 4), ("zero.Zero", "mean.Mean"), ("resnet18", "vgg19"))
    for i, (grid, masking, model) in enumerate(cells):
        fingerprint = f"fingerprint{i}"
        config = {
            "dataset": data,
            "players": {"_target_": GRID, "grid": grid},
            "masking": {"_target_": f"pipeline.masking.{masking}"},
            "model": {"name": model},
        }
        rows = [curve(k, fingerprint, seed=i, model=model, n_players=grid**2) for k in "abc"]
        entry = made(fingerprint, **config) | {"preprocessing": PREPROCESSING}
        parts.append((rows, entry))
    return seal(folder / "run", *parts)


def test_a_sweep_keeps_its_names_everywhere(sweep):
    found = found_in(sweep)
    expected = {
        f"moxi, {model}, players.grid={grid}, masking={masking}"
        for model in ("resnet18", "vgg19")
        for grid in (2, 4)
        for masking in ("Zero", "Mean")
    }
    assert {row["title"] for row in found.summary} == expected
    assert len(found.summary) == 8 and all(row["n"] == 3 for row in found.summary)
    areas, _, _ = found.table.partition("image by image")
    lines = re.findall(r"^moxi, .*?(?=  )", areas, re.MULTILINE)
    assert sorted(lines) == sorted(expected)
    section = found.section(1)
    photographs = views(section)
    for title in expected:
        assert any(curve.name.title == title for curve in section.curves), "legend"
        assert f"<td>{title}<td>" in section.html, "table"
        assert any(i["title"] == title for view in photographs for i in view["items"]), "gallery"
        assert all(title in chart.lines for chart in found.charts)
        assert f"insertion/{title}/auc_probability_low" in found.numbers
    assert sorted(view["model"] for view in photographs) == ["resnet18", "vgg19"]
    assert "<th>model<th>" in section.html and "players patch14" in section.html
    assert section.models == ["resnet18", "vgg19"] and section.datasets == ["toy"]


def test_the_page_says_on_top_what_it_is_about(tmp_path):
    run = RunDir(str(tmp_path / "<run>"), CURVES)
    sections = [Section(html="", models=[m], datasets=["toy"]) for m in ("a<b", "c", "c")]
    with open(page.write(run, sections, confidence=0.975)) as file:
        html = file.read()
    assert "<b>a&lt;b, c</b> on <b>toy</b>" in html
    assert "97.5 % bootstrap" in html and "<run>" not in html


def test_no_two_groups_look_alike_and_a_method_keeps_its_colour():
    groups = [Name(method=m, variant=v, model="") for m in "ab" for v in "0123456789"]
    looks = figures.styles(groups)
    assert len({tuple(look.items()) for look in looks}) == 20
    assert len({look["color"] for look in looks[:10]}) == 1
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in figures.COLOURS)


def test_a_label_that_changed_leaves_one_group(tmp_path):
    rows = [curve("a", "f"), curve("b", "f", model="resnet18.a1_in1k")]
    found = found_in(seal(tmp_path, (rows, made("f"))))
    assert [row["n"] for row in found.summary] == [2]


def test_failures_and_missing_photographs_are_said(tmp_path):
    lost = curve("b", "f", status="failed", error="too <dark>")
    failed = lost | dict.fromkeys(("prediction", "target", "order", "fraction", "probability"))
    found = found_in(seal(tmp_path, ([curve("a", "f"), failed], made("f"))))
    assert "1 (+1 failed)" in found.table
    with open(page.write(found.run, [found.section(5)], confidence=0.95)) as file:
        html = file.read()
    assert "<code>toy/s.tar/b</code>, moxi: too &lt;dark&gt;" in html and "too <dark>" not in html
    (good, lost) = index(html)
    assert [len(entry["errors"]) for entry in (good, lost)] == [1, 2]
    assert all("photograph not shown" in entry["errors"][-1] for entry in (good, lost))


def test_a_group_without_results_is_a_line_without_numbers(tmp_path):
    failed = curve("a", "g", "gradcam", status="failed", error="no")
    parts = [([curve("a", "f")], made("f")), ([failed], made("g", "gradcam"))]
    found = found_in(seal(tmp_path, *parts))
    assert re.search(r"gradcam +- +- +- +0 \(\+1 failed\)", found.table)
    assert all(list(chart.lines) == ["moxi"] for chart in found.charts)
    assert "gradcam" in found.section(0).html


def test_columns_that_older_rows_lack_are_no_obstacle(tmp_path):
    rows = seal(tmp_path, ([curve("a", "f"), curve("b", "f")], made("f"))).read()
    older = rows.drop_columns(["curve_masking", "masking"])
    ((key, mine),) = grouped(older, "objective")
    assert len(mine) == n_images(older) == 2
    assert "masking" not in key and names([key], [])["f"].title == "moxi"


def test_images_of_two_data_sets_are_not_taken_for_one(tmp_path):
    rows = [curve("a", "f"), curve("a", "g", dataset="other")]
    run = seal(tmp_path, ([rows[0]], made("f")), ([rows[1]], made("g")))
    assert n_images(run.read()) == 2
    assert len(list(found_in(run).section(9).exhibits)) == 2


def test_every_folder_of_studies_is_found_and_nothing_there_is_an_error(tmp_path):
    assert {study.kind.folder for study in studies.studies()} == {"results", "masks"}
    with pytest.raises(UsageError, match=r"no rows there; run jobs.evaluate or jobs.undesirable"):
        studies.findings(SETTINGS | {"out": str(tmp_path)})


@pytest.mark.parametrize(
    ("name", "value"),
    [("gallery", -1), ("grid", 1), ("resamples", 0), ("confidence", 1.0), ("subset", "some")],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(UsageError, match=name):
        check(SETTINGS | {"gallery": 3, name: value})


def mask(key: str, fingerprint: str, method: str = "f_tc", **more) -> dict:
    """A row of a mask that does not matter; every number is 0.5."""
    numbers = {f.name: 0.5 for f in MASKS.schema if f.type == "double"}
    known = {"dataset": "toy", "shard": "s.tar", "key": key, "model": "timm", "method": method}
    whole = dict.fromkeys(("label", "prediction", "target", "prediction_after"), 1)
    return (
        numbers
        | known
        | whole
        | {"fingerprint": fingerprint, "trial": 0, "status": "ok", "improved": True}
        | {"mask": [0.5] * 16, "fractions": [0.5] * 19, "converged": True}
        | more
    )


def test_masks_of_several_settings_and_of_none_are_told_apart(tmp_path):
    parts = [
        ([mask(k, f, model=model) for k in "ab"], made(f, "f_tc", methods={"f_tc": {"cells": c}}))
        for f, c, model in (("f", 4, "timm"), ("g", 8, "timm"), ("h", 4, "vgg19"))
    ]
    failed = [mask("a", "i", "f_ntc", status="failed", error="no")]
    base = [mask("a", "j", "undesirable_base")]
    parts += [(failed, made("i", "f_ntc")), (base, made("j", "undesirable_base"))]
    found = found_in(seal(tmp_path, *parts, kind=MASKS))
    assert found.name == "undesirable"
    told = {row["title"] for row in found.summary}
    assert told >= {"f_tc, timm, cells=4", "f_tc, timm, cells=8", "f_tc, vgg19"}
    assert len(told) == 5 and all(title in found.table for title in told)
    assert "0 (+1 rows failed)" in found.table
    html = found.section(0).html
    assert all(f"<td>{title}<td>" in html for title in told if "f_ntc" not in title)
    assert "f_tc, timm, cells=8/phi_low" in found.numbers
