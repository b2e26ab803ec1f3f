"""Scores and searches: one of each of one's own, and all of the tree with one another."""

import dataclasses
import itertools
import math
import pkgutil
from importlib import import_module
from typing import ClassVar

import numpy as np
import pytest
import torch

import pipeline.scores
import pipeline.searches
from pipeline import UsageError
from pipeline.game import OBJECTIVES, Coalitions, Outputs, drive, toy
from pipeline.judges.regions import Regions
from pipeline.methods import play
from pipeline.methods.subset import Subset
from pipeline.scores import Scored
from pipeline.scores.target import Target
from pipeline.searches import Stop
from pipeline.searches.greedy import Greedy

N = 8
ELEMENTS = 12
_random = np.random.default_rng(5)
COVERS_NE = torch.from_numpy(_random.random((N, ELEMENTS)) < 0.25)
WEIGHTS_E = torch.from_numpy(_random.random(ELEMENTS))


def covered(coalitions_CN: torch.Tensor) -> torch.Tensor:
    """Weight of all elements that some player of a coalition covers."""
    return (coalitions_CN.double() @ COVERS_NE.double() > 0).double() @ WEIGHTS_E


def game(coalitions_CN: torch.Tensor) -> Outputs:
    """Log-odds rise with what is covered, from below to above 0; features say what that is, the
    entropy is that of two classes."""
    value_C1 = covered(coalitions_CN)[:, None] - 2
    p_C2 = torch.cat([value_C1.sigmoid(), (-value_C1).sigmoid()], 1)
    entropy_C = -(p_C2 * p_C2.log()).sum(1)
    features_CE = (coalitions_CN.double() @ COVERS_NE.double() > 0).float()
    prediction_C = (value_C1[:, 0] <= 0).long()
    return Outputs.of((0,), value_C1, value_C1, prediction_C, 2, entropy_C, features_CE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coverage:
    """What the picked regions' features cover; both curves are seen on the way."""

    version: ClassVar[int] = 1
    objectives = OBJECTIVES

    def forwards(self, n_players):
        return n_players, 2

    def open(self, game):
        alone = yield Coalitions(torch.eye(game.n_players, dtype=torch.bool), features=True)
        return Covering(alone.features_CD > 0)


class Covering:
    start, tie = 0.0, 1e-9

    def __init__(self, covers_NE):
        self._covers_NE = covers_NE.double()

    def __call__(self, picked_CN):
        outputs = yield Coalitions(torch.cat([picked_CN, ~picked_CN]))
        shown, left = outputs[: len(picked_CN)], outputs[len(picked_CN) :]
        value_C = (picked_CN.double() @ self._covers_NE > 0).double() @ WEIGHTS_E
        return Scored(value_C, shown.top1_C, shown, left)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restarted:
    """Greedy search, again from some random players; the order whose prefixes are worth most."""

    version: ClassVar[int] = 1
    restarts: int = 3
    seed: int = 0

    def forwards(self, n_players, per_set, stop):
        return (1 + self.restarts) * Greedy().forwards(n_players, per_set, stop)

    def __call__(self, value, game, stop):
        tries = [(yield from Greedy()(value, game, stop))]
        for first in game.rng(self.seed).permutation(game.n_players)[: self.restarts]:
            tries.append((yield from Greedy()(From(value, first), game, stop)))
        return max(tries, key=worth)


class From:
    """F of sets that hold a player; others are worth nothing."""

    def __init__(self, value, player):
        self._value, self._player = value, player
        self.start, self.tie = value.start, value.tie

    def __call__(self, picked_CN):
        scored = yield from self._value(picked_CN)
        value_C = scored.value_C.masked_fill(~picked_CN[:, self._player], -torch.inf)
        return dataclasses.replace(scored, value_C=value_C)


def worth(found) -> float:
    """Mean value of an order's prefixes."""
    return -math.inf if found.path is None else float(found.path.value_C.mean())


def kinds(package) -> list:
    """Every score or search of a package, in its default settings."""
    modules = [
        import_module(f"{package.__name__}.{info.name}")
        for info in pkgutil.iter_modules(package.__path__)
    ]
    return [
        kind()
        for module in modules
        for kind in vars(module).values()
        if dataclasses.is_dataclass(kind)
        and hasattr(kind, "version")
        and kind.__module__ == module.__name__
    ]


SCORES = [
    *kinds(pipeline.scores),
    Target(visible="others", sign=-1),
    Target(visible="others", sign=1),
    Target(read="probability"),
    Coverage(),
]
SEARCHES = [*kinds(pipeline.searches), Restarted()]
STOPS = [{}, {"stop": "budget", "budget": 3}, {"stop": "flip"}, {"gain": True}]


def explain(method: Subset):
    """What a method finds in the toy game, and the sets it asked for."""
    toy_game, answer = toy(game, N)
    asked = []

    def counted(ask):
        asked.append(ask.coalitions_CN)
        return answer(ask)

    return drive(method.explain(toy_game), counted), asked


def along(score, order: list[int]) -> Scored:
    """F of every prefix of an order."""
    toy_game, answer = toy(game, N)
    picked_CN = torch.zeros(len(order), N, dtype=torch.bool)
    for step, player in enumerate(order):
        picked_CN[step:, player] = True
    return drive(drive(score.open(toy_game), answer)(picked_CN), answer)


def test_every_kind_of_the_tree_is_found():
    assert Greedy() in SEARCHES and Target() in SCORES


@pytest.mark.parametrize("stop", STOPS, ids=str)
@pytest.mark.parametrize("search", SEARCHES, ids=str)
@pytest.mark.parametrize("score", SCORES, ids=str)
def test_every_search_runs_on_every_score(score, search, stop):
    method = Subset(score=score, search=search, **stop)
    explanation, asked = explain(method)
    assert tuple(explanation) == score.objectives
    spent = sum(map(len, asked))
    assert spent <= method.most_forwards(N)
    if search == Greedy() and stop.get("stop") != "flip" and not stop.get("gain"):
        once, per_set = score.forwards(N)
        repeated = once + (2 + 4 if per_set == 2 and not stop else 0)  # ends; one and all but one
        assert spent == method.most_forwards(N) - repeated
    for objective, found in explanation.items():
        assert found.evaluations == spent
        assert len(set(found.order)) == len(found.order) <= (method.budget or N)
        if not stop:
            assert sorted(found.order) == list(range(N))
        expected = along(score, found.order)
        seen = expected.shown if objective == "insertion" else expected.left
        if found.path is not None and seen is not None:  # a search need not see its order
            torch.testing.assert_close(found.path.value_C, seen.value_C)


@pytest.mark.parametrize("search", SEARCHES, ids=str)
@pytest.mark.parametrize("score", SCORES, ids=str)
def test_a_path_is_the_score_along_the_order(score, search):
    toy_game, answer = toy(game, N)
    value = drive(score.open(toy_game), answer)
    found = drive(search(value, toy_game, Stop()), answer)
    if found.path is not None:
        torch.testing.assert_close(found.path.value_C, along(score, found.order).value_C)
    assert found.path is not None or search not in (Greedy(), Restarted())


@pytest.mark.parametrize("search", [Greedy(), Restarted()], ids=str)
def test_greedy_on_coverage_comes_near_the_best_set_of_any_size(search):
    found = explain(Subset(score=Coverage(), search=search))[0]["insertion"]
    for size, value in enumerate(along(Coverage(), found.order).value_C.tolist(), 1):
        sets_CN = torch.zeros(math.comb(N, size), N, dtype=torch.bool)
        for row, members in enumerate(itertools.combinations(range(N), size)):
            sets_CN[row, list(members)] = True
        assert value >= (1 - 1 / math.e) * float(covered(sets_CN).max())


def test_restarts_are_never_worse_than_none():
    for score in SCORES:
        toy_game, answer = toy(game, N)
        value = drive(score.open(toy_game), answer)
        one, more = (
            drive(search(value, toy_game, Stop()), answer) for search in (Greedy(), Restarted())
        )
        assert worth(more) >= worth(one)


def test_a_score_that_looks_at_both_sides_gives_both_curves_of_one_search():
    toy_game, answer = toy(game, N)
    method = Subset(score=Coverage(), search=Greedy())
    explanation, asked = explain(method)
    assert len(asked) == 1 + N - 2  # single regions, a question a step; the last two are known
    assert explanation["insertion"].order == explanation["deletion"].order

    def nothing(ask):
        raise AssertionError("asked again")

    for objective in OBJECTIVES:
        unseen = dataclasses.replace(explanation[objective], path=None)
        free = drive(Regions().judge(explanation[objective], objective, toy_game), nothing)
        paid = drive(Regions().judge(unseen, objective, toy_game), answer)
        for column, expected in paid.items():
            if not isinstance(expected, str):
                np.testing.assert_allclose(free[column], expected, rtol=1e-12)


def test_searches_stop_where_they_are_told_to():
    full = explain(Subset(score=Coverage(), search=Greedy()))[0]["insertion"]
    values = along(Coverage(), full.order).value_C
    three = explain(Subset(score=Coverage(), search=Greedy(), stop="budget", budget=3))[0]
    assert three["deletion"].order == full.order[:3]
    flip = explain(Subset(score=Coverage(), search=Greedy(), stop="flip"))[0]["insertion"]
    assert flip.order == full.order[: int((values > 2).nonzero()[0]) + 1]
    gain = explain(Subset(score=Coverage(), search=Greedy(), gain=True))[0]["insertion"]
    everything = float(covered(torch.ones(1, N, dtype=torch.bool)))
    assert gain.order == full.order[: int((values >= everything - 1e-9).nonzero()[0]) + 1]
    assert len(flip.order) < len(gain.order) < N
    none, asked = explain(Subset(score=Target(visible="others"), search=Greedy(), gain=True))
    assert none["deletion"].order == [] and sum(map(len, asked)) == N
    assert none["deletion"].path is not None and len(none["deletion"].path) == 0


def test_probability_is_read_where_it_is_asked_for():
    order = list(range(N))
    for score in (Target(), Target(visible="others", sign=-1)):
        odds = along(score, order)
        found = along(dataclasses.replace(score, read="probability"), order)
        expected_C = (score.sign * odds.value_C).sigmoid() * score.sign
        torch.testing.assert_close(found.value_C, expected_C)


def test_a_target_raised_by_hiding_flips_only_if_it_is_not_predicted_anyway():
    def hindered(coalitions_CN):  # players stand in the target's way, the first ones most
        return 10 - coalitions_CN.double() @ torch.arange(N, 0, -1).double()

    method = Subset(score=Target(visible="others", sign=1), search=Greedy(), stop="flip")
    found = play(method, hindered, N)["deletion"]
    assert found.order == [0, 1, 2, 3, 4]  # 8 + ... + 4 of 36 hidden leaves 6 < 10
    assert len(explain(method)[0]["deletion"].order) == N  # predicted from the start


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"stop": "never"}, "stop='never'"),
        ({"stop": "budget"}, "budget=<players"),
        ({"stop": "budget", "budget": 0}, "budget=0"),
        ({"budget": -1}, "budget=-1"),
    ],
)
def test_a_stop_that_is_none_is_named(wrong, named):
    with pytest.raises(UsageError, match=named):
        Subset(score=Target(), search=Greedy(), **wrong)


@pytest.mark.parametrize("wrong", [{"read": "logit"}, {"visible": "all"}, {"sign": 0}])
def test_a_reading_that_is_none_is_named(wrong):
    with pytest.raises(UsageError, match=f"score.{next(iter(wrong))}="):
        Target(**wrong)
