"""What is asked of a cluster, and whether it is still there; Ray itself is made up."""

import time
from types import SimpleNamespace

import pytest

from pipeline import UsageError
from pipeline.workers import cluster as module
from pipeline.workers.cluster import Health, LostError, plan


def asked(**more) -> dict:
    usual = {"address": None, "actors": None, "threads": 2, "placement_timeout_s": 60}
    return usual | {"gpus_per_actor": 1.0, "cpu_actors": 0} | more


@pytest.fixture
def has(monkeypatch):
    def resources(**found: float) -> None:
        monkeypatch.setattr(module.ray, "cluster_resources", lambda: found)

    return resources


def groups(**more) -> list[tuple[int, dict]]:
    return [(group.actors, dict(group.resources)) for group in plan(asked(**more)).groups]


def test_every_gpu_has_an_actor_or_several(has):
    has(CPU=16, GPU=4)
    assert groups() == [(4, {"num_gpus": 1.0, "num_cpus": 1.0})]
    assert groups(gpus_per_actor=0.5) == [(8, {"num_gpus": 0.5, "num_cpus": 1.0})]
    assert groups(gpus_per_actor=2.0) == [(2, {"num_gpus": 2.0, "num_cpus": 1.0})]
    both = groups(cpu_actors=3, actors=2)
    assert both == [(2, {"num_gpus": 1.0, "num_cpus": 1.0}), (3, {"num_cpus": 2.0})]
    assert plan(asked(cpu_actors=3)).actors == 7


def test_without_gpus_threads_share_the_cores(has):
    has(CPU=8)
    assert groups() == [(4, {"num_cpus": 2})]
    assert groups(actors=16) == [(16, {"num_cpus": 0.5})]


def test_what_a_machine_has_not_is_said_at_once(has, caplog):
    has(CPU=16, GPU=1)
    with pytest.raises(UsageError, match=r"this machine has not what one actor needs \(GPUS: 2\)"):
        plan(asked(gpus_per_actor=2.0))
    plan(asked(gpus_per_actor=2.0, address="auto"))  # a cluster may grow
    assert "waiting up to 60 s for it to grow" in caplog.text


@pytest.fixture
def alive(monkeypatch):
    """A cluster of one node that is well, until one changes it."""
    found = SimpleNamespace(dead=[], nodes=[{"NodeID": "me", "Alive": True}], leaving={})
    context = SimpleNamespace(get_node_id=lambda: "me")
    node = SimpleNamespace(dead_processes=lambda: found.dead)
    monkeypatch.setattr(module.ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(module.ray, "nodes", lambda: found.nodes)
    monkeypatch.setattr(module.worker, "_global_node", node)
    draining = SimpleNamespace(get_draining_nodes=lambda: found.leaving)
    monkeypatch.setattr(module.state, "state", draining)
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    return found


def looked(health: Health) -> frozenset[str]:
    time.sleep(0.2)
    return health.check()


def test_nodes_that_are_about_to_go_are_named(alive):
    health = Health()
    assert looked(health) == frozenset()
    alive.leaving = {"other": 1234}
    assert looked(health) == {"other"}
    health.stop()


def test_a_dead_ray_is_one_line(alive):
    health = Health()
    alive.dead = [("raylet", None)]
    with pytest.raises(LostError, match=r"^Ray has died \(its raylet ended\); what is committed"):
        looked(health)
    alive.dead, alive.nodes = [], [{"NodeID": "me", "Alive": False}]
    with pytest.raises(LostError, match="the driver's own node is dead"):
        looked(Health())


def test_a_ray_that_does_not_answer_is_given_up(alive, monkeypatch):
    monkeypatch.setattr(module, "SILENT_S", 0.1)
    monkeypatch.setattr(module.ray, "nodes", lambda: time.sleep(60))
    health = Health()
    with pytest.raises(LostError, match="no answer for 0 s"):
        looked(health)
