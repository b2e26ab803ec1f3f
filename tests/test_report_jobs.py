"""jobs.figures draws mean curves for a paper, jobs.show one image's orders."""

import numpy as np
import pytest
from conftest import encode, write_tar
from PIL import Image
from synthetic import PREPROCESSING, curve, made, seal

from jobs import figures, show
from pipeline import UsageError, statistics, studies
from pipeline.rows import RunDir


@pytest.fixture
def run(tmp_path) -> RunDir:
    """Two shards that share the key b; two methods, one of them for insertion alone."""
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    picture = encode(Image.fromarray(noise), "PNG")
    for shard, keys in (("s", "ab"), ("t", "bc")):
        write_tar(tmp_path / f"{shard}.tar", {f"{key}.png": picture for key in keys})
    data = {
        "_target_": "pipeline.data.shards.Shards",
        "name": "toy",
        "shards": [f"{tmp_path}/s.tar", f"{tmp_path}/t.tar"],
    }
    parts = []
    for method, objectives in (("moxi", ["insertion"]), ("gradcam", ["insertion", "deletion"])):
        node = {"_target_": "pipeline.methods.gone.Gone"}
        rows = [
            curve(key, method, method, objective=o, shard=shard)
            for shard, keys in (("s.tar", "ab"), ("t.tar", "bc"))
            for key in keys
            for o in objectives
        ]
        entry = made(method, method, dataset=data, methods={method: node})
        parts.append((rows, entry | {"preprocessing": PREPROCESSING}))
    return seal(tmp_path / "run", *parts)


@pytest.fixture
def aggregated(run) -> RunDir:
    settings = {"subset": "all", "grid": 5, "resamples": 20, "confidence": 0.95, "seed": 0}
    (found,) = studies.findings(settings | {"out": run.out})
    statistics.keep(run, "curves", found.files["curves"])
    return run


def called(job, *overrides: str) -> None:
    job.main.job(job.main.settings(list(overrides)))


def test_figures_come_in_every_form_and_in_both_widths(aggregated, capsys):
    called(figures, f"out={aggregated.out}")
    names = {
        f"{name}.{form}"
        for name in (
            *(
                f"{o}_{q}_single"
                for o in ("insertion", "deletion")
                for q in ("probability", "top1")
            ),
            *(f"{q}_double" for q in ("probability", "top1")),
        )
        for form in ("pdf", "svg", "png")
    }
    assert set(aggregated.names("figures")) == names
    assert len(capsys.readouterr().out.splitlines()) == len(names)
    widths = {}
    for name in ("insertion_probability_single", "probability_double"):
        with Image.open(aggregated.path("figures", f"{name}.png")) as picture:
            widths[name] = picture.width / 300
    assert list(widths.values()) == pytest.approx([3.25, 6.75], abs=0.01)
    with open(aggregated.path("figures", "probability_double.svg")) as file:
        svg = file.read()
    assert "gradcam" in svg and "probability of the target" in svg, "text stays text"
    with open(aggregated.path("figures", "probability_double.pdf"), "rb") as file:
        first = file.read()
    assert b"/Type3" not in first
    called(figures, f"out={aggregated.out}", "formats=[pdf]")
    with open(aggregated.path("figures", "probability_double.pdf"), "rb") as file:
        assert file.read() == first, "the same curves, the same bytes"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("quantities=[area]", "quantities: area is none of probability, top1, log_odds"),
        ("formats=[gif]", "formats: gif is none of pdf, svg, png"),
        ("formats=[]", "formats is empty"),
        ("subset=wrong", "subset=wrong: the run has curves of all"),
    ],
)
def test_figures_that_nobody_can_draw_are_refused(aggregated, override, said):
    with pytest.raises(UsageError, match=said):
        called(figures, f"out={aggregated.out}", override)


def test_an_image_is_drawn_with_all_its_orders(run, capsys):
    called(show, f"out={run.out}", "key=a")
    place = capsys.readouterr().out.strip()
    assert place == run.path("shown", "a.png")
    with Image.open(place) as whole:
        size = whole.size
        assert whole.format == "PNG" and len(set(whole.convert("L").getdata())) > 50
    called(show, f"out={run.out}", "key=a", "only=[moxi]", "dpi=65", f"file={run.out}/x.png")
    with Image.open(f"{run.out}/x.png") as few:
        assert few.width == pytest.approx(size[0] / 2, abs=1)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("key=z",), "key=z: the run has no such image; its report lists keys"),
        (("key=a", "shard=t.tar"), "the run has no such image in shard=t.tar"),
        (("key=b",), r"several images have it, in toy/s.tar, toy/t.tar; give shard=<one>"),
        (("key=a", "only=[lime]"), "no row of a is of lime; there are gradcam, moxi"),
    ],
)
def test_an_image_that_is_not_there_is_told(run, overrides, said):
    with pytest.raises(UsageError, match=said):
        called(show, f"out={run.out}", *overrides)


def test_a_shard_tells_images_of_one_key_apart(run, capsys):
    called(show, f"out={run.out}", "key=b", "shard=t.tar")
    assert capsys.readouterr().out.strip().endswith("shown/b.png")
