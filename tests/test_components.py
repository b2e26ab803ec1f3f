"""What a `_target_` may name, in settings and in a Parquet file's metadata; how arguments fail."""

import dataclasses
import sys

import pytest
import yaml
from hydra.utils import get_class

from jobs.aggregate import main as aggregate
from jobs.evaluate import main as evaluate
from pipeline import UsageError, build
from pipeline.components import check_plugins, component
from pipeline.config import CONF
from pipeline.masking.blur import Blur
from pipeline.methods.undesirable import Undesirable
from pipeline.players.patch_grid import PatchGrid
from pipeline.rows import RunDir, parts
from pipeline.studies.curves.rows import CURVES, SCHEMA

COMPONENTS = [
    pytest.param(node, id=str(path.relative_to(CONF)))
    for path in sorted(CONF.rglob("*.yaml"))
    for content in [yaml.safe_load(path.read_text()) or {}]
    for node in [content, *[v for v in content.values() if isinstance(v, dict)]]
    if "_target_" in node
]
GRID = {"_target_": "pipeline.players.patch_grid.PatchGrid", "grid": 2}


def evil(marker):
    """Ways to run something, each of which would make `marker`."""
    call = {"name": str(marker), "exist_ok": True}
    return {
        "another package": {"_target_": "os.makedirs", **call},
        "nested": GRID | {"grid": {"_target_": "os.makedirs", **call}},
        "nested in a list": GRID | {"grid": [{"_target_": "os.makedirs", **call}]},
        "a module of ours": {"_target_": "pipeline.rows.os.makedirs", **call},
        "a module of ours, a class": {"_target_": "pipeline.rows.directory.Path", **call},
        "a function of ours": {"_target_": "pipeline.components.import_module", "name": "this"},
        "somebody's class": {"_target_": "pipeline.models.VisionTransformer"},
        "positional": GRID | {"_args_": [str(marker)]},
        "partial": GRID | {"_partial_": True},
        "recursive": GRID | {"_recursive_": False},
        "convert": GRID | {"_convert_": "all"},
        "no text": {"_target_": ["os", "makedirs"], **call},
        "a script": {"_target_": "pipeline.__main__.X"},
    }


@pytest.mark.parametrize("node", COMPONENTS)
def test_yaml_keys_are_the_constructors_arguments(node):
    target = get_class(node["_target_"])
    assert dataclasses.is_dataclass(target)
    assert set(node) - {"_target_"} == {field.name for field in dataclasses.fields(target)}


def test_every_component_folder_is_covered():
    assert len(COMPONENTS) >= 14


@pytest.mark.parametrize("way", evil(""))
def test_nothing_but_classes_of_allowed_packages_is_named(way, tmp_path):
    marker = tmp_path / "marker"
    with pytest.raises(UsageError) as caught:
        component(evil(marker)[way], "players")
    assert "players" in str(caught.value) and "\n" not in str(caught.value)
    assert not marker.exists() and "this" not in sys.modules


def test_nothing_is_imported_before_the_whole_tree_is_checked():
    module = "pipeline.experiments.setsum.digits"
    sys.modules.pop(module, None)
    node = {"_target_": f"{module}.Digits", "x": {"_target_": "builtins.print"}}
    with pytest.raises(UsageError, match=r"x\._target_: builtins\.print is not part of pipeline"):
        component(node)
    assert module not in sys.modules


@pytest.mark.parametrize(
    "override",
    [
        "+model.kwargs.x._target_=torch.load",
        "+players.x={_target_: builtins.print, _args_: [1]}",
        "players._target_=os.makedirs",
        "+tracking.x._target_=os.makedirs",
        "+players._partial_=true",
    ],
)
def test_settings_run_nothing(override):
    with pytest.raises(UsageError, match=r"\A[^\n]*\Z"):
        evaluate.settings(["dataset.name=x", "dataset.shards=x.tar", override])


def part(out, config, folder=None):
    """A run directory with one row, whose file says that it was made with `config`."""
    row = {"dataset": "x", "shard": "s", "key": "k", "method": "random_0", "fingerprint": "f"}
    row |= {"objective": "insertion", "status": "ok", "fraction": [0.0, 1.0], "flip": None}
    row |= {name: [0.0, 1.0] for name in ("probability", "log_odds")} | {"top1": [False, True]}
    row |= {"auc_probability": 0.5, "auc_top1": 0.5, "n_players": 1, "order": [0], "seconds": 1.0}
    row |= dict.fromkeys(("label", "prediction", "target", "evaluations"), 0)
    row |= dict.fromkeys(("model", "players", "masking", "curve_masking"), "x")
    preprocessing = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    metadata = {"config": config, "fingerprints": {"random_0": "f"}, "weights_hash": "w"}
    metadata |= {"preprocessing": preprocessing, "schema_version": 1}
    run = RunDir(str(out), CURVES)
    content = parts.to_bytes(parts.to_table([row], metadata, SCHEMA))
    run.write(run.path("results", "x-0.parquet"), content)


@pytest.mark.parametrize("way", evil(""))
def test_a_run_directory_runs_nothing(way, tmp_path):
    marker = tmp_path / "marker"
    part(tmp_path / "run", {"dataset": evil(marker)[way], "players": GRID})
    settings = aggregate.settings([f"out={tmp_path / 'run'}", "tracking=disabled", "resamples=2"])
    with pytest.raises(UsageError, match=r"\A[^\n]*\Z"):
        aggregate.job(settings)
    assert not marker.exists() and "this" not in sys.modules


def test_plugins_are_allowed_by_the_command_in_hand_alone(tmp_path, monkeypatch):
    (tmp_path / "tinymod.py").write_text("class Data:\n    def __init__(self): 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    data = {"_target_": "tinymod.Data"}
    part(tmp_path / "run", {"dataset": data, "players": GRID, "plugins": ["tinymod"]})
    given = [f"out={tmp_path / 'run'}", "tracking=disabled", "resamples=2"]
    with pytest.raises(UsageError, match=r"tinymod\.Data is not part of pipeline"):
        aggregate.job(aggregate.settings(given))
    assert "tinymod" not in sys.modules
    with pytest.raises(ZeroDivisionError):
        aggregate.job(aggregate.settings([*given, "plugins=[tinymod]"]))


def test_plugins_that_are_not_there_are_named(tmp_path, monkeypatch):
    (tmp_path / "boom.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    check_plugins(["boom"])  # found without being imported
    for wrong in (["nowhere_to_be_found"], ["os.path"], ["../x"]):
        with pytest.raises(UsageError, match="plugins: "):
            check_plugins(wrong)
    with pytest.raises(UsageError, match="plugins: nowhere is not installed"):
        aggregate.settings(["out=x", "plugins=[nowhere]"])


def test_nested_components_are_built():
    blur = {"_target_": "pipeline.masking.blur.Blur", "sigma": 2, "kernel": 3}
    node = {"_target_": "pipeline.methods.Attribution", "order": [1], "evaluations": 0}
    found = component(node | {"details": {"a": [blur], "b": {"c": 1}}})
    assert found.details == {"a": [Blur(sigma=2, kernel=3)], "b": {"c": 1}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"limit": "abc"}, "dataset.limit='abc': give a whole number or null"),
        ({"limit": 1.5}, "dataset.limit=1.5: give a whole number"),
        ({"limit": True}, "dataset.limit=True: give a whole number"),
        ({"exif": 1}, "dataset.exif=1: give true or false"),
        ({"name": 7}, "dataset.name=7: give text, quoted twice: 'dataset.name=\"7\"'"),
        ({"name": None}, "dataset.name=None: give text"),
        ({"shards": {"a": 1}}, "give text or a list"),
        ({"limt": 3}, "dataset.limt: Shards has no such setting; use one of limit"),
        ({"limit": 0}, "dataset.limit=0: give a positive number"),
    ],
)
def test_arguments_fail_with_the_key(settings, said):
    node = {"_target_": "pipeline.data.shards.Shards", "name": "x", "shards": "y"}
    with pytest.raises(UsageError) as caught:
        component(node | settings, "dataset")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("pipeline.masking.blur.Blurr", "use one of Blur"),
        ("pipeline.masking.nowhere.Blur", "No module named 'pipeline.masking.nowhere'"),
        ("Blur", "package.module.Class"),
        (None, "package.module.Class"),
    ],
)
def test_targets_that_lead_nowhere_are_named(target, said):
    with pytest.raises(UsageError) as caught:
        component({"_target_": target}, "masking")
    assert "masking._target_" in str(caught.value) and said in str(caught.value)


def test_missing_arguments_and_targets_are_named():
    with pytest.raises(UsageError, match=r"dataset\.shards is not set: Shards needs it"):
        component({"_target_": "pipeline.data.shards.Shards", "name": "x"}, "dataset")
    with pytest.raises(UsageError, match=r"methods\.x: no _target_"):
        component({"grid": 2}, "methods.x")
    wrong = {"_target_": "pipeline.methods.random.Random", "seed": "a"}
    with pytest.raises(UsageError, match=r"methods\.random_0\.seed='a': give a whole number"):
        build.methods({"methods": {"random_0": wrong}})


def test_paths_in_files_written_before_are_kept():
    for made in (PatchGrid, Undesirable, get_class("pipeline.data.shards.Shards")):
        assert get_class(f"{made.__module__}.{made.__name__}") is made
