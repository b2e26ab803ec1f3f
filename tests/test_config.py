"""Command lines: what is refused and how it is said, help, what a run directory keeps of them."""

import dataclasses
import shlex
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from jobs import (
    aggregate,
    check,
    compact,
    compare,
    decide,
    demo,
    evaluate,
    evidential,
    fig5,
    figures,
    pack,
    plan,
    prototypes,
    reevaluate,
    select,
    setsum,
    show,
    submit,
    sync,
    undesirable,
    verify,
)
from jobs.__main__ import main as pixel_quorum
from pipeline import UsageError
from pipeline.config import CONF, Command, help, record
from pipeline.config.mistakes import jobs_of
from pipeline.studies import build

JOBS = [
    m.main
    for m in (
        *(aggregate, check, compact, compare, decide, demo, evaluate, evidential, fig5, figures),
        *(pack, plan, prototypes, reevaluate, select, setsum, show, submit, sync),
        *(undesirable, verify),
    )
]
EXPERIMENTS = sorted((CONF / "experiment").glob("*.yaml"))
GIVEN = {"dataset.name": "x", "dataset.shards": "x.tar", "out": "run"}


def settings(*overrides: str, command: Command = evaluate.main) -> dict:
    """Settings of overrides beside those that have to be given."""
    mine = {o.partition("=")[0] for o in overrides}
    rest = [f"{key}={value}" for key, value in GIVEN.items() if key not in mine]
    return command.settings([*rest, *overrides])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "methods=[moxi]",
            "methods/moxi does not exist: choose methods from blurred_random",
        ),
        ("model=resnet", "choose model from dual_encoder, efficientnet_lite0"),
        ("cluster=5", "group"),
        ("modle=timm", "modle: no such setting; use one of model"),
        ("players.grd=9", "players.grd: no such setting; use one of grid"),
        ("engine.precison=fp32", "engine.precison: no such setting; use one of precision"),
        ("masking.sigma=3", "masking.sigma: no such setting"),
        ("methods.moxi_deletion.serch.x.y=1", "methods.moxi_deletion.serch: no such setting; use"),
        ("methods.moxi_both_ends.search.x=1", "methods.moxi_both_ends is not among methods=[moxi_"),
        ("cluster.actors=many", "cluster.actors='many': give a whole number"),
        ("cluster.tries=null", "cluster.tries=null: give a value"),
        ("lock.wait_s=soon", "lock.wait_s='soon': give a number"),
        ("+foo=1", "+foo: no such setting"),
        ("+engine.foo=1", "+engine.foo: no such setting; use one of"),
        ("+lock.wait=1", "+lock.wait: no such setting; use one of wait_s"),
        ("out=", "out is empty: give out=<directory>"),
        ("model=timm", "model.name is not set: give model.name=<value>"),
        ("out=${nowhere}", "nowhere"),
        ("quickstart", "'quickstart': give key=value"),
        ("dataset.shards=x-{0..9}.tar", 'dataset.shards="x-{0..9}.tar"\''),
        ("experiment=undesirable_demo", "is not for jobs.evaluate: run it with jobs.undesirable"),
        ("experiment=quikstart", "choose experiment from baselines_demo"),
        ("plugins=[nowhere]", "plugins: nowhere is not installed"),
    ],
)
def test_bad_requests_are_told_in_one_line(override, said):
    with pytest.raises(UsageError) as caught:
        settings(override)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert "undesirable_tables" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.name=resnet81"], ["resnet81", "close"]),
        (["players.grid=9"], ["players.grid=9", "160x160", "use one of"]),
        (["+players.gird=9"], ["players.gird", "use one of grid"]),
        (["players.grid=many"], ["players.grid='many': give a whole number"]),
        (["target=label2"], ["target='label2'", "'prediction' or 'label'"]),
        (["dataset.shards=/nowhere/x.tar"], ["/nowhere/x.tar does not exist"]),
        (["dataset.limit=abc"], ["dataset.limit='abc': give a whole number"]),
        (
            ["methods.moxi_insertion.stop=in"],
            ["methods.moxi_insertion.stop='in': give one of full"],
        ),
        (
            ["methods.moxi_insertion.score.read=in"],
            ["methods.moxi_insertion.score.read='in': give"],
        ),
        (
            ["methods=[moxi_both_ends]", "methods.moxi_both_ends.search.again.risk=-1"],
            ["methods.moxi_both_ends.search.again.risk=-1: give 0 or more"],
        ),
        (["+methods.foo=1"], ["methods.foo"]),
        (["model.weights=/nowhere.pt"], ["/nowhere.pt", "no such file"]),
    ],
)
def test_bad_components_are_told_before_anything_is_computed(overrides, said):
    small = ("players=patch2", "model=timm", "model.weights=random", "model.name=test_resnet")
    with pytest.raises(UsageError) as caught:  # noqa: PT012
        work = build("curves", settings(*small, *overrides))
        work.check()
        list(work.data.index())
    assert "\n" not in str(caught.value)
    for words in said:
        assert words in str(caught.value)


def test_braces_that_the_shell_expanded_are_noticed():
    shards = [f"dataset.shards=x-{i}.tar" for i in range(3)]
    with pytest.raises(UsageError, match=r"as x-0.tar and as x-1.tar; .* quote them twice"):
        evaluate.main.settings(["dataset.name=x", *shards])


def test_what_timm_takes_can_be_added():
    found = settings("+model.kwargs.num_classes=200", "+model.preprocessing.crop_pct=1.0")
    assert found["model"]["kwargs"] == {"num_classes": 200}
    assert found["model"]["preprocessing"] == {"crop_pct": 1.0}
    assert found["lock"] == {"wait_s": 600.0} and found["plugins"] == []


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_experiments_compose_for_the_jobs_that_they_name(path):
    commands = {command.name: command for command in JOBS}
    assert jobs_of(path)
    for name in jobs_of(path):
        commands[name].settings([f"experiment={path.stem}"])


@pytest.mark.parametrize("command", JOBS, ids=lambda c: c.name)
def test_help_says_what_every_setting_means(command):
    said = help.text(command.name, "What it does.", [])
    assert said.startswith("What it does.") and "hydra:" not in said and "_target_" not in said
    for field in dataclasses.fields(command.schema):
        assert field.name in said
    offered = said.split("Change settings")[0].partition("  experiment  ")[2]
    for path in EXPERIMENTS:
        assert (path.stem in offered) == (command.name in jobs_of(path))


def test_help_holds_the_comments_and_follows_the_choices():
    said = help.text("evaluate", "", ["model=timm"])
    for words in (
        "# the class explained: prediction | label | a class index or name",
        "# the member with the class index, or json.<field>",
        "# deaths of a worker process before its image is given up",
        "# model=timm\n# Any timm model",
        "# methods=[moxi_insertion,moxi_deletion,moxi_minus,gradcam,random_0]",
        "masking@curve_masking  black",
    ):
        assert words in said


def test_a_run_directory_keeps_settings_and_commands(tmp_path, monkeypatch):
    overrides = ["dataset.name=x", "dataset.shards=a b.tar", f"out={tmp_path}", "players=patch7"]
    found = evaluate.main.settings(overrides)
    told = OmegaConf.create({"job": {"config_name": "evaluate"}, "overrides": {"task": overrides}})
    monkeypatch.setattr(HydraConfig, "get", lambda: told)
    record([found])
    record([found])
    record([found], again=True)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == found
    lines = (tmp_path / "command.txt").read_text().splitlines()
    assert [shlex.split(line)[1:] for line in lines] == 2 * [["jobs.evaluate", *overrides]]


def test_the_console_script_lists_jobs_and_refuses_others(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pixel-quorum"])
    pixel_quorum()
    listed = capsys.readouterr().out
    assert all(f"  {command.name} " in listed for command in JOBS)
    monkeypatch.setattr(sys, "argv", ["pixel-quorum", "evalute"])
    with pytest.raises(SystemExit, match="2"):
        pixel_quorum()
    assert (
        capsys.readouterr().err == "error: 'evalute' is no job; use one of evaluate, reevaluate\n"
    )


def test_the_wheel_holds_all_settings_and_templates(tmp_path):
    for name in ("pipeline", "jobs", "conf", "pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).symlink_to(ROOT / name)
    code = "import setuptools; setuptools.setup()"
    subprocess.run([sys.executable, "-c", code, "-q", "build", "-b", "b"], cwd=tmp_path, check=True)
    wanted = [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "pipeline").rglob("*.html")]
    wanted += (ROOT / "pipeline").rglob("*.j2")
    wanted += [*ROOT.glob("pipeline/report/app/*"), *ROOT.glob("pipeline/report/assets/*")]
    assert len(wanted) > 60
    for path in wanted:
        assert (tmp_path / "b" / "lib" / path.relative_to(ROOT)).exists()
