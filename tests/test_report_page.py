"""The page stands alone, holds every image once, and nothing of the data becomes markup."""

import json
import re

import numpy as np
import pytest
from conftest import encode, write_tar
from PIL import Image
from shown import held, images, index
from synthetic import PREPROCESSING, curve, made, seal

from pipeline import UsageError, statistics, studies
from pipeline.report import bundle, curves, page
from pipeline.rows import RunDir, Storage

SETTINGS = {"subset": "all", "grid": 5, "resamples": 20, "confidence": 0.95, "seed": 0}
EVIL = "</script><img src=x onerror=alert(1)>"
RANDOM = "pipeline.methods.random.Random"


@pytest.fixture
def run(tmp_path) -> RunDir:
    """Six photographs, of which one is named to break out and one mistaken; three methods."""
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    keys = ["a", "b", "c", "d", "e", EVIL.replace("/", "")]
    picture = encode(Image.fromarray(noise), "PNG")
    write_tar(tmp_path / "s.tar", {f"{key}.png": picture for key in keys})
    data = {
        "_target_": "pipeline.data.shards.Shards",
        "name": "toy",
        "shards": f"{tmp_path}/s.tar",
        "class_names": "imagenet",
    }
    parts = []
    for seed, method in enumerate(("moxi", "random_0", "random_1")):
        node = {"_target_": RANDOM, "seed": seed} if seed else {"_target_": "pipeline.x.Moxi"}
        rows = [
            curve(key, method, method, seed=seed, objective=o, label=1 + (key == "b"))
            | {"log_odds": [-2.0, -1.0, 0.0, 1.0, 2.0], "target": 1 + (key == "b")}
            for key in keys
            for o in ("insertion", "deletion")
        ]
        if not seed:
            rows[0] |= {"status": "failed", "error": EVIL}
        entry = made(method, method, dataset=data, methods={method: node}, note=EVIL)
        parts.append((rows, entry | {"preprocessing": PREPROCESSING}))
    return seal(tmp_path / "run", *parts)


def section_of(run: RunDir, gallery: int = 9, **more):
    (found,) = studies.findings(SETTINGS | {"out": run.out} | more)
    return found.section(gallery)


def written(run: RunDir, section=None) -> str:
    with open(page.write(run, [section or section_of(run)], confidence=0.95)) as file:
        return file.read()


def test_nothing_of_the_data_becomes_markup(run):
    html = written(run)
    assert "<img src=x" not in html and "<img" not in html
    assert EVIL in json.dumps(index(html)[0]["errors"]) + index(html)[1]["errors"][0]
    # uPlot and the app: two scripts that run, and the elements that hold data
    assert len(re.findall(r"<script>", html)) == 2
    assert html.count("</script>") == html.count("<script")


def test_the_page_stands_alone_and_keeps_uplots_licence(run):
    html = written(run)
    assert not re.search(r"(src|href)=.https?://", html)
    assert "Copyright (c) 2022 Leon Sorokin" in html and "uPlot (v1.6.32)" in html


def test_every_image_is_held_once_with_one_map_of_players(run):
    html = written(run)
    found = images(html)
    assert len(found) == 6 and len(held(html, "regions")) == 1
    assert all(len(image["views"]) == 1 for image in found)
    assert all(image["views"][0]["photo"].startswith("data:image/webp") for image in found)
    (mistaken,) = [entry for entry in index(html) if entry["mistaken"]]
    assert mistaken["key"] == "b" and not mistaken["right"]
    assert mistaken["target"] == "great white shark (2)"


def test_images_beyond_the_first_lie_in_chunks_beside_the_page(run, monkeypatch):
    monkeypatch.setattr(page, "INLINE", 2)
    monkeypatch.setattr(page, "CHUNK", 3)
    html = written(run)
    assert [entry["chunk"] for entry in index(html)] == [0, 0, 1, 1, 1, 2]
    assert len(images(html)) == 2
    with open(run.path("report", "images", "1.js")) as file:
        text = file.read()
    call, number, content = re.fullmatch(r"(\S+)\((\d+), (.*)\);\n", text, re.DOTALL).groups()
    assert (call, number) == ("pixelQuorum.chunk", "1") and "</" not in text
    assert len(json.loads(content)["images"]) == 3 and len(json.loads(content)["regions"]) == 1


def test_seeds_of_a_control_are_one_line_of_their_images_means(run):
    found = {c.name.title: c for c in section_of(run).curves if one_of(c)}
    assert set(found) == {"moxi", "random (2 seeds)"}
    pooled = found["random (2 seeds)"]
    rows = [r for r in run.read().to_pylist() if r["objective"] == "insertion"]
    mine = [r["probability"] for r in rows if r["method"].startswith("random")]
    assert pooled.n == 6 and pooled.band.mean_G == pytest.approx(np.mean(mine, 0), abs=1e-6)
    assert (pooled.band.low_G <= pooled.band.mean_G).all()


def one_of(curve) -> bool:
    at = (curve.objective, curve.quantity, curve.subset)
    return at == ("insertion", "probability", "all")


def test_subsets_and_quantities_have_curves_of_their_own(run):
    found = section_of(run).curves
    assert {c.quantity for c in found} == {"probability", "top1", "log_odds"}
    n = {c.subset: c.n for c in found if c.name.title == "random (2 seeds)"}
    assert n == {"all": 6, "correct": 5, "wrong": 1}
    assert {c.subset for c in section_of(run, subset="wrong").curves} == {"wrong"}


def test_curves_are_kept_as_they_are_drawn(run):
    (found,) = studies.findings(SETTINGS | {"out": run.out})
    statistics.keep(run, "curves", found.files["curves"])
    drawn, kept = found.section(0).curves, curves.load(run)
    by_name = {(c.name, c.objective, c.quantity, c.subset): c for c in kept}
    for one in drawn:
        other = by_name[one.name, one.objective, one.quantity, one.subset]
        assert other.labels.items() >= one.labels.items()
        assert other.band.high_G == pytest.approx(one.band.high_G)
    assert {c.name for c in kept} == {c.name for c in drawn}


def test_curves_that_are_not_there_are_asked_for(tmp_path):
    with pytest.raises(UsageError, match=r"no curves.parquet there; run jobs.aggregate first"):
        curves.load(Storage(str(tmp_path)))


def test_the_page_says_how_it_was_made(run):
    run.write(run.path("command.txt"), b"2026-01-01T00:00:00+00:00 jobs.evaluate a=b 'c=[d]'\n")
    html = written(run)
    assert "python -m jobs.evaluate a=b &#39;c=[d]&#39;\npython -m jobs.aggregate out=" in html
    assert "aae49dd47f24bcb0" in html and "&lt;/script&gt;" in html


def test_modules_are_inlined_once_each_after_what_they_import():
    text = bundle.script()
    names = re.findall(r"^const module_(\w+) = ", text, re.MULTILINE)
    assert sorted(names) == sorted(path.stem for path in bundle.APP.glob("*.js"))
    for name in names:
        for other in re.findall(
            r'^import .* from "\./(\w+)\.js"', (bundle.APP / f"{name}.js").read_text(), re.MULTILINE
        ):
            assert names.index(other) < names.index(name)
    assert not re.search(r"^(import|export) ", text, re.MULTILINE)
