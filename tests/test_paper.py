"""Tables as papers print them, and the forms that tables are written in."""

import csv
import io

import pytest
from synthetic import curve, made, seal

from pipeline import UsageError, studies
from pipeline.report.tables import Table, slug
from pipeline.studies.curves import paper

SETTINGS = {"subset": "all", "grid": 5, "resamples": 20, "confidence": 0.95, "seed": 0}
SPEC = {
    "title": "Table 1, toys (TOY 2024)",
    "rows": [{"method": "gradcam", "name": "Grad-CAM"}, {"method": "moxi", "name": "+ ours"}],
    "columns": [
        {"head": "Deletion ↓", "objective": "deletion", "read": "value"},
        {"head": "4 %", "objective": "insertion", "read": "top1@0.5"},
    ],
    "source": "what the paper prints",
}
PRINTED = {"gradcam": {"cells": {"Deletion ↓": 0.0647}}}


def run(tmp_path, *names: str):
    parts = []
    for name in names:
        prints = {"moxi": f"m{name}", "gradcam": f"g{name}"}
        rows = [
            curve("a", fingerprint, method, objective=objective, dataset=name)
            for method, fingerprint in prints.items()
            for objective in ("insertion", "deletion")
        ]
        config = made("m", table=SPEC, published=PRINTED, dataset={"name": name})
        parts.append((rows, config | {"fingerprints": prints}))
    return seal(tmp_path, *parts)


def test_rows_and_columns_are_the_paper_s(tmp_path):
    (found,) = studies.findings(SETTINGS | {"out": run(tmp_path, "toy").out})
    table = found.tables["table_1_toys_toy_2024"]
    assert list(table.heads) == ["method", "Deletion ↓", "4 %"]
    assert [row[0] for row in table.rows] == ["Grad-CAM", "+ ours"]
    number = next(
        s for s in found.summary if (s["fingerprint"], s["objective"]) == ("gtoy", "deletion")
    )
    assert table.rows[0][1].startswith(f"{number['auc_probability']:.4f} [")
    assert table.rows[0][1].endswith("(0.0647)") and "(" not in table.rows[1][1]
    assert table.rows[0][2].startswith("1.0000")  # the toy's top-1 from the half on
    assert "in parentheses what the paper prints" in found.table
    (first, _) = csv.DictReader(io.StringIO(table.csv()))
    assert float(first["Deletion ↓"]) == number["auc_probability"]
    assert (first["method"], first["Deletion ↓ published"]) == ("Grad-CAM", "0.0647")


def test_data_sets_of_one_table_stand_side_by_side(tmp_path):
    (found,) = studies.findings(SETTINGS | {"out": run(tmp_path, "cub", "celeba").out})
    table = found.tables["table_1_toys_toy_2024"]
    assert set(table.heads) == {"method"} | {
        f"{name} {column['head']}" for name in ("cub", "celeba") for column in SPEC["columns"]
    }
    assert all(cell != "-" for row in table.rows for cell in row)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": [{"method": "lime", "name": "LIME"}]}, r"table\.rows: lime"),
        ({"rows": ["moxi"]}, r"table\.rows: moxi is no"),
        ({"columns": [{"head": "A", "objective": "both", "read": "value"}]}, "A: objective is"),
        ({"columns": [{"head": "A", "objective": "deletion"}]}, "is no {head, objective, read}"),
        ({"columns": [{"head": "A", "objective": "deletion", "read": "top1@x"}]}, "no fraction"),
        ({"head": 1}, "give title"),
    ],
)
def test_a_table_that_cannot_be_is_named(change, said):
    with pytest.raises(UsageError, match=said):
        paper.check(SPEC | change, ["moxi", "gradcam"])
    paper.check(SPEC, ["moxi", "gradcam"])
    paper.check(None, [])


def test_tables_are_written_as_people_paste_them():
    table = Table(["method", "AUC ↓"], [["a_b & c", "1 | 2"]], title="50 % of $x$")
    assert set(table.files()) == {"txt", "csv", "md", "tex"}
    assert r"a\_b \& c & 1 | 2 \\" in table.latex() and r"\caption{50 \% of \$x\$}" in table.latex()
    assert r"AUC $\downarrow$" in table.latex()
    assert r"| a_b & c | 1 \| 2 |" in table.markdown()
    assert table.csv() == "method,AUC ↓\na_b & c,1 | 2\n"
    assert table.text().splitlines()[0] == "50 % of $x$"
    assert slug("Table 1, CUB-200 (ICLR)") == "table_1_cub_200_iclr"
