"""What documentation says is so: code runs, commands compose, links resolve."""

import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import yaml
from conftest import ROOT
from synthetic import curve, made, seal

from docs import reference
from pipeline.methods import play

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ("README.md", "tutorial.md", "how-to.md", "tracking.md", "querying.md")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run in runs/mine and runs/digits."""
    folder = tmp_path_factory.mktemp("documented")
    for name in ("mine", "digits"):
        parts = [
            (
                [
                    curve(key, f"{method}1", method, seed=i, objective=objective, label=i % 2)
                    for i, key in enumerate("abcd")
                    for objective in ("insertion", "deletion")
                ]
                + [curve("e", f"{method}1", method, status="failed", error="cut off", order=None)],
                made(f"{method}1", method),
            )
            for method in ("moxi_insertion", "gradcam")
        ]
        seal(folder / "runs" / name, *parts)
    return folder


def test_queries_run_as_they_are_written(place, monkeypatch):
    monkeypatch.chdir(place)
    import duckdb

    asked: list = []
    sql = duckdb.sql
    monkeypatch.setattr(duckdb, "sql", lambda text: asked.append(sql(text)) or asked[-1])
    there: dict = {}
    for code in blocks(ROOT / "docs" / "querying.md", "python"):
        exec(code, there)
    assert len(asked) == 6
    means, disagreements, flips, failures, costs, quarter = (one.fetchall() for one in asked)
    good = there["good"]
    assert len(good) == 16 and len(there["rows"]) == 18
    mine = good[(good.method == "gradcam") & (good.objective == "deletion")]
    assert {m: v for m, o, v in means if o == "deletion"}["gradcam"] == pytest.approx(
        mine.auc_probability.mean()
    )
    assert len(disagreements) == 4 and abs(disagreements[0][1]) >= abs(disagreements[-1][1])
    assert {method for method, *_ in flips} == {"moxi_insertion", "gradcam"}
    assert failures == [("cut off", 2)] and len(costs) == 2
    at = {
        (r.key, r.method): r.probability[1]
        for r in good[good.objective == "insertion"].itertuples()
    }
    assert {(key, method): value for key, method, value in quarter} == pytest.approx(at)
    assert there["made"]["fingerprints"] in (
        {"gradcam": "gradcam1"},
        {"moxi_insertion": "moxi_insertion1"},
    )
    assert there["means"]["gradcam"].shape == (21,)


def test_readme_s_query_runs(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    (code,) = [c for c in blocks(ROOT / "README.md", "python") if "duckdb" in c]
    exec(code, {})
    assert "moxi_insertion" in capsys.readouterr().out


def test_the_notebook_draws_the_rows(place, monkeypatch):
    monkeypatch.chdir(place)
    matplotlib.use("agg")
    there: dict = {}
    notebook = json.loads((ROOT / "docs" / "fig3.ipynb").read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), there)
    lines = {line.get_label(): line for line in there["panels"][0].get_lines()}
    assert set(lines) == {"moxi_insertion", "gradcam"}
    accuracy = lines["gradcam"].get_ydata()
    assert accuracy[0] == 0 and accuracy[-1] == 1  # top1 of every synthetic row: 0 0 1 1 1
    assert np.interp(0.5, there["grid"], accuracy) == 1
    assert there["bands"]["deletion", "gradcam"][1] == pytest.approx(accuracy)


def test_the_reference_is_up_to_date():
    assert reference.PAGE.read_text() == reference.page(), "run python -m docs.reference"


def test_the_method_of_the_how_to_works(tmp_path, monkeypatch):
    page = ROOT / "docs" / "how-to.md"
    (source,) = [code for code in blocks(page, "python") if "class " in code]
    (settings,) = blocks(page, "yaml")
    package = tmp_path / "mypkg"
    package.mkdir()
    (package / "nearest.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    (node,) = yaml.safe_load(settings).values()
    module, _, name = node.pop("_target_").rpartition(".")
    try:
        method = getattr(importlib.import_module(module), name)(**node)
    finally:
        sys.modules.pop(module, None)
    found = play(method, lambda coalitions_CN: coalitions_CN.sum(1).double(), 49)
    assert found["insertion"].order[:3] == [24, 23, 25] and method.most_forwards(49) == 0


def commands(page: Path) -> list[str]:
    """Commands of our jobs in a page's shell blocks that can be composed as they stand."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    found = re.findall(r"python -m jobs\.[^\n&]*", text)
    return [c.partition("   #")[0] for c in found if "mypkg" not in c and " -m " not in c[9:]]


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_compose(name):
    page = ROOT / name if name == "README.md" else ROOT / "docs" / name
    found = commands(page)
    for command in found:
        _, _, job, *given = shlex.split(command, comments=True)
        if "..." in given:
            continue  # what is left out is to be given
        importlib.import_module(job).main.settings(given)
    assert found or name == "querying.md"


def test_links_resolve():
    headings = {
        page: {
            re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in page.read_text().splitlines()
            if line.startswith("#")
        }
        for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
    }
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("http"):
                continue
            file, _, anchor = target.partition("#")
            to = (page.parent / file).resolve() if file else page
            assert to.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in headings[to], f"{page.name}: {target}"


def test_the_first_screen_says_what_it_is_and_everything_is_cited():
    readme = (ROOT / "README.md").read_text()
    first = readme.partition("**Contents.**")[0]
    assert "![" in first and "make quickstart" in first and len(first.splitlines()) < 35
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0" and cited["authors"]
    assert cited["license"] in (ROOT / "pyproject.toml").read_text()
    for paper in cited["references"]:
        assert paper["url"] in readme and paper["title"] in readme
