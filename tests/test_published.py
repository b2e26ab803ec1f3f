"""Numbers of a paper stand beside ours, and never decide what a row is."""

import csv

import pytest
from synthetic import curve, made, seal

from jobs import evaluate
from pipeline import UsageError, studies
from pipeline.statistics import save
from pipeline.studies import build
from pipeline.studies.curves import published

SETTINGS = {"subset": "all", "grid": 5, "resamples": 20, "confidence": 0.95, "seed": 0}
PRINTED = {
    "insertion": 0.5752,
    "deletion": 0.1054,
    "highest": [0.243, 0.3519, 0.3984, 0.4513],
    "source": "ICLR 2024, Tables 1 and 2",
}
SMALL = ("players=patch2", "model=timm", "model.weights=random", "model.name=test_resnet")


def settings(*overrides: str) -> dict:
    given = ("dataset.name=x", "dataset.shards=x.tar", "out=run")
    return evaluate.main.settings([*given, *SMALL, *overrides])


def test_published_numbers_are_no_part_of_an_address():
    plain = build("curves", settings())
    told = build("curves", settings("+published.moxi_insertion={insertion: 0.5, source: x}"))
    assert plain.fingerprints == told.fingerprints


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"moxi": 0.5}, r"published.moxi=0.5: give some of insertion, deletion, highest, source"),
        ({"moxi": {"auc": 0.5}}, r"published.moxi=.*: give some of"),
        ({"moxi": {"insertion": 57.52}}, r"published.moxi.insertion=57.52: give a number from 0"),
        ({"moxi": {"deletion": "low"}}, r"published.moxi.deletion=low: give a number"),
        ({"moxi": {"highest": [0.1]}}, r"published.moxi.highest=\[0.1\]: give 4 numbers from 0"),
        ({"moxi": {"highest": 0.1}}, r"published.moxi.highest=0.1: give 4 numbers"),
    ],
)
def test_what_cannot_be_published_is_named(given, said):
    with pytest.raises(UsageError, match=said) as caught:
        published.check(given)
    assert "\n" not in str(caught.value)


def test_numbers_in_range_and_none_pass():
    published.check({"moxi": PRINTED, "gradcam": {"deletion": 0, "source": "x"}, "lime": {}})


def test_published_numbers_stand_beside_ours(tmp_path):
    rows = [curve("a", "f", objective=o, target=3) for o in ("insertion", "deletion")]
    parts = [(rows, made("f", published={"moxi": PRINTED, "lime": {"insertion": 0.1}}))]
    parts.append(([curve("a", "g", "gradcam", target=3)], made("g", "gradcam")))
    (found,) = studies.findings(SETTINGS | {"out": seal(tmp_path, *parts).out})
    head, _, *lines = found.table.splitlines()
    assert head.split("  ")[0] == "method" and head.count("published") == 2
    (line, _) = (line for line in lines if line.startswith("moxi "))
    assert "0.5752" in line and "0.1054" in line
    (line,) = (line for line in lines if line.startswith("moxi, published"))
    assert line.split()[2:] == ["0.2430", "0.3519", "0.3984", "0.4513", "-"]
    assert found.table.endswith("published: ICLR 2024, Tables 1 and 2")
    html = found.section(0).html
    assert "<th>published" in html and "<td>0.1054" in html and "<td>0.4513" in html
    assert "Published: ICLR 2024, Tables 1 and 2." in html
    save(found.run, found.name, found.summary)
    with open(tmp_path / "summary.csv") as file:
        columns = {(r["method"], r["objective"]): r for r in csv.DictReader(file)}
    told = columns["moxi", "insertion"]
    assert told["published_auc_probability"] == "0.5752"
    assert told["published_highest_50"] == "0.3519"
    assert columns["moxi", "deletion"]["published_auc_probability"] == "0.1054"
    assert columns["moxi", "deletion"]["published_highest_50"] == ""
    assert columns["gradcam", "insertion"]["published_source"] == ""


def test_nothing_published_is_not_mentioned(tmp_path):
    out = seal(tmp_path, ([curve("a", "f")], made("f"))).out
    (found,) = studies.findings(SETTINGS | {"out": out})
    html = found.section(0).html
    assert "ublished" not in found.table + html + str(found.summary)


def test_places_are_told_apart_by_their_methods(tmp_path):
    parts = [
        ([curve("a", m, m)], made(m, m, published={m: {"insertion": 0.1, "source": source}}))
        for m, source in (("moxi", "A, Table 1"), ("rise", "B, Table 2"))
    ]
    (found,) = studies.findings(SETTINGS | {"out": seal(tmp_path, *parts).out})
    assert found.table.endswith("published: A, Table 1 (moxi); B, Table 2 (rise)")
