import dataclasses
import inspect
from pathlib import Path

import pytest
import yaml
from conftest import job
from hydra.utils import get_class

from pipeline import UsageError
from pipeline.config import CONF, component

COMPONENTS = [
    pytest.param(node, id=str(path.relative_to(CONF)))
    for path in sorted(CONF.rglob("*.yaml"))
    for content in [yaml.safe_load(path.read_text()) or {}]
    for node in [content, *[v for v in content.values() if isinstance(v, dict)]]
    if "_target_" in node
]


@pytest.mark.parametrize("node", COMPONENTS)
def test_yaml_keys_are_the_constructors_arguments(node):
    target = get_class(node["_target_"])
    assert dataclasses.is_dataclass(target)
    assert set(node) - {"_target_"} == set(inspect.signature(target).parameters)


def test_every_component_folder_is_covered():
    assert len(COMPONENTS) >= 14


def test_only_this_project_can_be_instantiated():
    with pytest.raises(UsageError, match=r"os\.system is not part of pipeline"):
        component({"_target_": "os.system", "command": "true"})


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["methods=[moxi]"], ["methods/moxi", "moxi_insertion"]),
        (["model=resnet"], ["model/resnet", "timm"]),
        (["model=timm", "model.name=resnet81", "model.weights=random"], ["resnet81", "close"]),
        (["masking.sigma=3"], ["sigma"]),
        (["players.grid=9"], ["players.grid=9", "224x224", "use one of"]),
        (["target=label2"], ["target='label2'", "'prediction' or 'label'"]),
        (["dataset.shards=/nowhere/x.tar"], ["/nowhere/x.tar does not exist"]),
        (["model.weights=/nowhere.pt"], ["/nowhere.pt", "no such file"]),
        (["cluster.actors=many"], ["cluster", "many"]),
    ],
)
def test_bad_requests_get_one_line_and_exit_status_2(overrides, said, tmp_path, demo_shards):
    given = {"dataset.name": "x", "dataset.shards": demo_shards, "out": str(tmp_path / "run")}
    given |= dict(o.split("=", 1) for o in overrides if o.startswith("dataset."))
    rest = [o for o in overrides if not o.startswith("dataset.")]
    done = job("evaluate", *[f"{k}={v}" for k, v in given.items()], *rest, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for words in said:
        assert words in line
    assert not Path(tmp_path / "run" / "results").exists()


def test_missing_settings_are_named():
    done = job("evaluate", check=False)
    assert done.returncode == 2
    assert "dataset.name=" in done.stderr


def test_help_lists_settings_and_choices():
    text = job("evaluate", "--help").stdout
    assert "moxi_insertion" in text
    assert "curve_masking" in text
    assert "tokens_per_batch" in text
