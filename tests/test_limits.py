"""Values out of range are refused, in one line, before anything is computed."""

import copy
import functools
import os
import socket
import time

import pytest
import yaml

from jobs import aggregate, demo, evaluate, plan, select, setsum, undesirable
from pipeline import UsageError
from pipeline.config import limits

GIVEN = ["dataset.name=x", "dataset.shards=x.tar"]
REFUSED = {
    evaluate.main: [
        *("engine.images_in_flight=-1", "engine.images_in_flight=0", "engine.tokens_per_batch=0"),
        *("engine.tokens_per_batch=-5", "engine.precision=fp8", "cluster.actors=0"),
        *("cluster.actors=-1", "cluster.threads=0", "cluster.threads=-1", "cluster.cpu_actors=-1"),
        *("cluster.gpus_per_actor=0", "cluster.gpus_per_actor=1.5", "cluster.gpus_per_actor=-1"),
        *("cluster.placement_timeout_s=0", "cluster.image_deadline_s=0", "cluster.tries=0"),
        *("cluster.image_deadline_s=-5", "cluster.image_deadline_s=.nan", "cluster.tries=-1"),
        *("cluster.grace_s=-1", "cluster.time_limit_s=0", "lock.wait_s=-1", "retry=all"),
        *("max_failed=-0.1", "max_failed=1.1", "tracking.mode=on"),
    ],
    undesirable.main: ["trials=0", "greedy_grid=0", "retry=some", "max_failed=2"],
    plan.main: ["timed_images=0"],
    setsum.main: ["resamples=0", "confidence=1", "composites.test=0", "training.rate=0"],
    aggregate.main: [
        *("gallery=-1", "grid=1", "resamples=0", "confidence=0", "confidence=1"),
        "seed=-1",
    ],
    select.main: ["per_class=0"],
    demo.main: ["samples_per_shard=0"],
}
CASES = [(command, override) for command, refused in REFUSED.items() for override in refused]


def given(command, tmp_path) -> list[str]:
    keys = [f"keys={tmp_path}/keys.txt"] if command is select.main else []
    data = GIVEN if command in (evaluate.main, undesirable.main, plan.main) else []
    return [*data, *keys, f"out={tmp_path}/run"]


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    """Each command's settings, composed once."""
    place = tmp_path_factory.mktemp("out")
    return {command: command.settings(given(command, place)) for command in REFUSED}


@pytest.mark.parametrize(
    ("command", "override"), CASES, ids=[f"{command.name}-{o}" for command, o in CASES]
)
def test_a_value_out_of_range_is_refused_by_name(command, override, composed):
    name, _, value = override.partition("=")
    settings = copy.deepcopy(composed[command])
    limits.check(settings, command.schema)
    *path, last = name.split(".")
    node = functools.reduce(dict.__getitem__, path, settings)
    node[last] = yaml.safe_load(value)
    with pytest.raises(UsageError, match=rf"^{name}=\S+: give ") as caught:
        limits.check(settings, command.schema)
    assert "\n" not in str(caught.value)


def test_values_in_range_pass(tmp_path):
    overrides = [
        "cluster.gpus_per_actor=0.25",
        "cluster.grace_s=0",
        "lock.wait_s=0",
        "max_failed=0",
    ]
    found = evaluate.main.settings([*given(evaluate.main, tmp_path), *overrides, "retry=failed"])
    assert found["cluster"]["gpus_per_actor"] == 0.25 and found["max_failed"] == 0
    found = evaluate.main.settings([*given(evaluate.main, tmp_path), "cluster.gpus_per_actor=2"])
    assert found["cluster"]["gpus_per_actor"] == 2


def test_an_address_that_nobody_listens_at_is_refused_within_seconds(tmp_path):
    asked = given(evaluate.main, tmp_path)
    started = time.monotonic()
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "nonsense", "127.0.0.1:99999"):
        with pytest.raises(UsageError, match=r"^cluster.address=\S+: give .* nobody answers"):
            evaluate.main.settings([*asked, f"cluster.address={address}"])
    assert time.monotonic() - started < 60  # not the minutes that Ray would wait
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        assert evaluate.main.settings([*asked, f"cluster.address={place}"])
    assert evaluate.main.settings([*asked, "cluster=ray"])["cluster"]["address"] == "auto"


def test_out_has_to_be_a_directory_that_can_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (f"{tmp_path}/file", f"{tmp_path}/file/below"):
        with pytest.raises(UsageError, match=r"^out=\S+: give a directory"):
            evaluate.main.settings([*GIVEN, f"out={out}"])
    if os.getuid():  # root may write anywhere
        (tmp_path / "shut").mkdir(mode=0o500)
        with pytest.raises(UsageError, match=r"^out=\S+: give a directory"):
            evaluate.main.settings([*GIVEN, f"out={tmp_path}/shut/run"])
    assert evaluate.main.settings([*GIVEN, "out=memory://run"])
